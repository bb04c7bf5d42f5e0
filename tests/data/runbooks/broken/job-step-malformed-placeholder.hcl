# expect 3: invalid shell command in job.a.step[0](x).run
job "a" {
  step "x" { run = "echo ${var.x//a/b}" }
}
