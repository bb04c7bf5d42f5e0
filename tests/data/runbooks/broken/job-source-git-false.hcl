# expect 4: `git = false` is not valid in job.a.source
job "a" {
  source {
    git = false
  }
  step "x" { run = "true" }
}
