# expect 4: `${args.x}` is not available in job.a.step[0](x).run
job "a" {
  step "x" {
    run = "echo ${args.x}"
  }
}
