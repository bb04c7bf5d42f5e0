# expect 3: unrecognized template namespace `arg` in command.a.run
command "a" {
  run = "echo ${arg.x}"
}
