# expect 4: `count` in `defaults` of command.a must be a string, not a number
command "a" {
  args     = "[count]"
  defaults = { count = 3 }
  run      = "true"
}
