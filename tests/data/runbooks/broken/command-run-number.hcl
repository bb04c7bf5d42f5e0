# expect 3: command.a.run cannot be a number
command "a" {
  run = 5
}
