# expect 9: `after` of job.a.step[1](y) references unknown step `biuld`
job "a" {
  step "build" {
    run = "true"
  }

  step "y" {
    run   = "true"
    after = ["biuld"]
  }
}
