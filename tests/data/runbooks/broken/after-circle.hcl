# expect 6: steps wait for each other in a circle
job "a" {
  step "x" { run = "true" }
  step "y" {
    run   = "true"
    after = ["z"]
  }
  step "z" {
    run   = "true"
    after = ["y"]
  }
}
