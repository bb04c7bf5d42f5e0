# expect 3: `main` is not a value
command "a" {
  run = main
}
