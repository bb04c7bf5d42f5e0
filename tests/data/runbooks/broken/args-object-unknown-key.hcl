# expect 4: unknown key `positionals` in `args` of command.a
command "a" {
  args = {
    positionals = [{ name = "x" }]
  }
  run = "true"
}
