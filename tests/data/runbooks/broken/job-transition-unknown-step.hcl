# expect 5: job.a.step[0](test).on_done references unknown step `deplyo`
job "a" {
  step "test" {
    run     = "true"
    on_done = { step = "deplyo" }
  }

  step "deploy" {
    run   = "true"
    after = ["test"]
  }
}
