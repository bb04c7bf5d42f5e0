# expect 4: unknown name `args.nmae` in command.a.run
command "a" {
  args = "<name>"
  run  = "echo ${args.nmae}"
}
