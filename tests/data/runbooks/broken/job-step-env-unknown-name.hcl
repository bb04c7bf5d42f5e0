# expect 5: unknown name `HOME` in job.a.step[0](x).env.TARGET
job "a" {
  step "x" {
    run = "true"
    env = { TARGET = "${HOME}/x" }
  }
}
