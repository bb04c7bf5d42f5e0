# expect 3: `vars` of job.a must be a list of strings, not a string
job "a" {
  vars = "x"
  step "x" { run = "true" }
}
