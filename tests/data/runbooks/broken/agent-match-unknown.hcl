# expect 5: `match` of agent.g.on_error cannot be `rate_limit`
agent "g" {
  run = "claude"
  on_error = [
    { match = "rate_limit", action = "resume" },
  ]
}
