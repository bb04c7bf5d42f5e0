# expect 3: job.a.on_fail leads to step `y`, which has `after`
job "a" {
  on_fail = { step = "y" }
  step "x" { run = "true" }
  step "y" {
    run   = "true"
    after = ["x"]
  }
}
