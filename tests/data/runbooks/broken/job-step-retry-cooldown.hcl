# expect 5: unknown key `cooldown` in `retry` of job.a.step[0](x)
job "a" {
  step "x" {
    run   = "true"
    retry = { attempts = 1, cooldown = "2s" }
  }
}
