# expect 2: missing field `run` in command.a
command "a" {
  args = "<x>"
}
