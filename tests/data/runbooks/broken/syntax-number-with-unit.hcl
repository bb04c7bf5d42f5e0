# expect 5: `5m` is not a value
job "a" {
  step "x" {
    run     = "true"
    timeout = 5m
  }
}
