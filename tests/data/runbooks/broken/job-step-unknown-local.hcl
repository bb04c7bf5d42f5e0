# expect 7: unknown name `local.reop` in job.a.step[0](x).run
job "a" {
  locals {
    repo = "x"
  }
  step "x" {
    run = "cd ${local.reop}"
  }
}
