# expect 5: leads to step `y`, which has `after`
job "a" {
  step "x" {
    run     = "true"
    on_done = { step = "y" }
  }
  step "y" {
    run   = "true"
    after = ["x"]
  }
}
