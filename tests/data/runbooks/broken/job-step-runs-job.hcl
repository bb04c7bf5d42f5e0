# expect 4: a step cannot run a job
job "a" {
  step "x" {
    run = { job = "b" }
  }
}

job "b" {
  step "x" { run = "true" }
}
