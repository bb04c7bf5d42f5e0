# expect 6: the entry before matches every error
agent "g" {
  run = "claude"
  on_error = [
    { action = "fail" },
    { match = "rate_limited", action = "resume" },
  ]
}
