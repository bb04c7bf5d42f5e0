# expect 3: job.a.on_fail references unknown step `clean`
job "a" {
  on_fail = { step = "clean" }
  step "x" { run = "true" }
}
