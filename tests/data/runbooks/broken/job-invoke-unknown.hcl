# expect 4: unknown name `invoke.dri` in job.a.step[0](x).run
job "a" {
  step "x" {
    run = "cd ${invoke.dri}"
  }
}
