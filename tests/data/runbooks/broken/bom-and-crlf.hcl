command "a" {
  run = "true"
  arg = "<x>"
}
