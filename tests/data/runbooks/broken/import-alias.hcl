# expect 3: `a b` cannot be the name of an alias
import "oj/git" {
  alias = "a b"
}
