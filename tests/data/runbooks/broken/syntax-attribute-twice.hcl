# expect 4: `run` is set twice in this block
command "a" {
  run = "true"
  run = "false"
}
