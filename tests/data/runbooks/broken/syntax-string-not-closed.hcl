# expect 3: string is not closed before the end of the line
command "a" {
  run = "true
}
