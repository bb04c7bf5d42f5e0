# expect 4: unknown name `local.naem` in job.a.locals.full
job "a" {
  locals {
    full = "$(echo ${local.naem})"
    name = "x"
  }
  step "x" { run = "true" }
}
