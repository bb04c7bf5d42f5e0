# expect 4: `attempts` of agent.g.on_idle must be >= 1
agent "g" {
  run     = "claude"
  on_idle = { action = "nudge", attempts = 0 }
}
