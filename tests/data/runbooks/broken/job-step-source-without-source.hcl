# expect 4: `${source.root}` is not available in job.a.step[0](x).run
job "a" {
  step "x" {
    run = "ls ${source.root}"
  }
}
