# expect 5: unknown unit `fortnights` in duration `2 fortnights`
job "a" {
  step "x" {
    run     = "true"
    timeout = "2 fortnights"
  }
}
