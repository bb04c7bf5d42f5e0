# expect 3: unknown escape `\d`
command "a" {
  run = "grep '\d'"
}
