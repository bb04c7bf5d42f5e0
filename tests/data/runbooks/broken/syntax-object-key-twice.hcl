# expect 4: `x` is set twice in this object
command "a" {
  args     = "[x]"
  defaults = { x = "1", x = "2" }
  run      = "true"
}
