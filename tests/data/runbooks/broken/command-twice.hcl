# expect 6: command `a` is defined twice
command "a" {
  run = "true"
}

command "a" {
  run = "false"
}
