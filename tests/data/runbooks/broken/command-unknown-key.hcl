# expect 4: unknown key `arg` in command.a
command "a" {
  run = "true"
  arg = "<x>"
}
