# expect 4: `args` of command.a: duplicate argument name `v`
command "a" {
  run  = "true"
  args = { flags = [{ name = "x", short = "v" }], options = [{ name = "y", short = "-v" }] }
}
