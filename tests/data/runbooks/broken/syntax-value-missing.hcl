# expect 3: expected a value after `run =`, found end of line
command "a" {
  run =
}
