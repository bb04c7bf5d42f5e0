# expect 4: locals of job.a refer to each other in a circle
job "a" {
  locals {
    one = "${local.two}"
    two = "${local.one}"
  }
  step "x" { run = "true" }
}
