# expect 3: invalid argument syntax: `name`
command "a" {
  args = "name <b>"
  run  = "true"
}
