# expect 3: unknown key `agnet` in command.a.run
command "a" {
  run = { agnet = "x" }
}
