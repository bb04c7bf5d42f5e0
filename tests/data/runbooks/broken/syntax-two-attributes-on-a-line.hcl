# expect 3: expected a new line after the value of `args`, found `run`
command "a" {
  args = "<x>" run = "true"
}
