# expect 5: unknown name `args.y` in job.a.step[0](x).run
job "a" {
  vars = ["xx"]
  step "x" {
    run = "echo ${args.xx} ${args.y}"
  }
}
