# expect 6: unknown key `comand` in the runbook
# expect 13: `after` of job.b.step[0](x) references unknown step `z`
# expect 13: the first step of a job cannot have `after`
# expect 14: unknown key `timout` in job.b.step[0](x)
# Each of these problems is reported in one go.
comand "a" {
  run = "true"
}

job "b" {
  step "x" {
    run    = "true"
    after  = ["z"]
    timout = "5m"
  }
}
