# expect 2: unknown key `step` in the runbook
step "a" {
  run = "true"
}
