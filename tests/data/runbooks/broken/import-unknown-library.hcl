# expect 2: unknown library `oj/gti`
import "oj/gti" {}

command "a" {
  run = { job = "whatever" }
}
