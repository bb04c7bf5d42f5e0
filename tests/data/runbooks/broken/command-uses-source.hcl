# expect 3: `${source.root}` is not available in command.a.run
command "a" {
  run = "echo ${source.root}"
}
