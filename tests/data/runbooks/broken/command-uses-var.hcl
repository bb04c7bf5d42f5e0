# expect 4: `${var.x}` is not available in command.a.run
command "a" {
  args = "<x>"
  run  = "echo ${var.x}"
}
