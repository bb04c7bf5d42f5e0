# expect 14: branches that run side by side (`b` and `c`) both lead to step `d`
job "a" {
  step "a" {
    run     = "true"
    on_done = { step = ["b", "c"] }
  }
  step "b" {
    run     = "true"
    on_done = { step = "d" }
    on_fail = { step = "d" }
  }
  step "c" {
    run     = "true"
    on_done = { step = "d" }
  }
  step "d" { run = "true" }
}
