# expect 3: job.a.source cannot be `worktree`
job "a" {
  source = "worktree"
  step "x" { run = "true" }
}
