# expect 3: unknown key `on_failure` in job.a.notify
job "a" {
  notify { on_failure = "oh" }
  step "x" { run = "true" }
}
