# expect 5: `on_fail` of job.a.step[0](x) leads to one step only
job "a" {
  step "x" {
    run     = "true"
    on_fail = ["y", "z"]
    on_done = ["y", "z"]
  }

  step "y" { run = "true" }
  step "z" { run = "true" }
}
