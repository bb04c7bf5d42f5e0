# expect 4: `default` of agent.g.on_idle needs a `timeout`
agent "g" {
  run     = "claude"
  on_idle = { action = "escalate", default = "skip" }
}
