# expect 2: command needs a name
command {
  run = "true"
}
