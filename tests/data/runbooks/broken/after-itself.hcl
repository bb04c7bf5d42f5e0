# expect 6: step `y` cannot come after itself
job "a" {
  step "x" { run = "true" }
  step "y" {
    run   = "true"
    after = ["y"]
  }
}
