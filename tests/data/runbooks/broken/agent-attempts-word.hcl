# expect 4: expected a positive integer or "forever", not `always`
agent "g" {
  run     = "claude"
  on_idle = { action = "nudge", attempts = "always" }
}
