# expect 5: `MY-VAR` is not the name of an environment variable
job "a" {
  step "x" {
    run = "true"
    env = { MY-VAR = "1" }
  }
}
