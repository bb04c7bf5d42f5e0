# expect 7: invalid shell command in job.a.step[1](second).run
job "a" {
  on_done = { step = "second" }
  step "first" { run = "true" }

  step "second" {
    run = "echo one &&"
  }
}
