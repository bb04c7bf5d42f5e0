# expect 3: `${` is never closed
command "a" {
  run = "echo ${args.x"
}
