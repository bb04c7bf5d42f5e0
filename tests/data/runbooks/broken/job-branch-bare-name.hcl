# expect 6: unknown name `title` in job.a.source.branch
job "a" {
  vars = ["title"]
  source {
    git    = true
    branch = "x-${title}"
  }
  step "x" { run = "true" }
}
