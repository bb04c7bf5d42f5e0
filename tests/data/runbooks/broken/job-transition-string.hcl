# expect 5: `on_done` of job.a.step[0](x) must be an object, not a string
job "a" {
  step "x" {
    run     = "true"
    on_done = "y"
  }

  step "y" { run = "true" }
}
