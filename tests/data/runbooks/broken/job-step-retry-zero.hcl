# expect 5: `attempts` of `retry` of job.a.step[0](x) must be >= 1
job "a" {
  step "x" {
    run   = "true"
    retry = { attempts = 0 }
  }
}
