# expect 5: `timeout` of job.a.step[0](x) must be more than zero
job "a" {
  step "x" {
    run     = "true"
    timeout = "0s"
  }
}
