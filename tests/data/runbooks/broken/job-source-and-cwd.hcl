# expect 3: job.a has both `cwd` and `source`
job "a" {
  cwd    = "/tmp"
  source = "folder"
  step "x" { run = "true" }
}
