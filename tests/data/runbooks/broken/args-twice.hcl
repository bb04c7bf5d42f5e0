# expect 3: duplicate argument name `a`
command "a" {
  args = "<a> --a"
  run  = "true"
}
