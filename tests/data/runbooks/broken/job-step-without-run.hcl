# expect 3: missing field `run` in job.a.step[0](x)
job "a" {
  step "x" {
    timeout = "5m"
  }
}
