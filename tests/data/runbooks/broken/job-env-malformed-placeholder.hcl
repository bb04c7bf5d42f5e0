# expect 5: malformed placeholder in job.a.step[0](x).env.X
job "a" {
  step "x" {
    run = "true"
    env = { X = "${var.x//a/b}" }
  }
}
