# expect 4: missing field `run` in agent.g.on_idle
agent "g" {
  run     = "claude"
  on_idle = { action = "gate" }
}
