# expect 2: command takes one label
command "a" "b" {
  run = "true"
}
