# expect 3: optional positional `a` cannot precede required `b`
command "a" {
  args = "[a] <b>"
  run  = "true"
}
