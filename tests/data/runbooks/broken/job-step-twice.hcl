# expect 5: duplicate step name `x`
job "a" {
  on_done = { step = "x" }
  step "x" { run = "true" }
  step "x" { run = "true" }
}
