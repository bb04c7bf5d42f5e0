# expect 3: unknown key `as` in import "oj/git"
import "oj/git" {
  as = "git"
}
