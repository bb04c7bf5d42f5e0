# expect 5: unknown key `attempts` in `on_fail` of job.a.step[0](x)
job "a" {
  step "x" {
    run     = "true"
    on_fail = { step = "y", attempts = 2 }
  }

  step "y" { run = "true" }
}
