# expect 2: `a b` cannot be the name of a command
command "a b" {
  run = "true"
}
