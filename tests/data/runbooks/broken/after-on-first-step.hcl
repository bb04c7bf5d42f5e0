# expect 5: the first step of a job cannot have `after`
job "a" {
  step "x" {
    run   = "true"
    after = ["y"]
  }
  step "y" { run = "true" }
}
