# expect 3: short form `-ab` is not one letter
command "a" {
  args = "[-ab/--all]"
  run  = "true"
}
