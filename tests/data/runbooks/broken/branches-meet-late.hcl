# expect 10: branches that run side by side (`b` and `x`) both lead to step `e`
# expect 23: branches that run side by side (`t` and `p`) both lead to step `t`
job "a" {
  step "a" {
    run     = "true"
    on_done = { step = ["b", "c", "x"] }
  }
  step "x" {
    run     = "true"
    on_done = { step = "e" }
  }
  step "b" { run = "true" }
  step "c" { run = "true" }
  step "d" {
    after   = ["b", "c"]
    run     = "true"
    on_done = { step = "e" }
  }
  step "e" { run = "true" }
  on_done = { step = ["t", "p"] }
  step "p" {
    run     = "true"
    on_done = { step = "t" }
  }
  step "t" { run = "true" }
}
