# expect 4: `cooldown` of agent.g.on_idle
agent "g" {
  run     = "claude"
  on_idle = { action = "nudge", cooldown = "soon" }
}
