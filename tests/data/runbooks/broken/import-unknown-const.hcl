# expect 3: library `oj/git` has no const `chekc`
import "oj/git" {
  const "chekc" { value = "make" }
}
