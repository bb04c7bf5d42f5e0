# expect 4: `default` of agent.g.on_idle cannot be `skipp`
agent "g" {
  run     = "claude"
  on_idle = { action = "escalate", timeout = "4h", default = "skipp" }
}
