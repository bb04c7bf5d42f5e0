# expect 5: unexpected `}`
command "a" {
  run = "true"
}
}
