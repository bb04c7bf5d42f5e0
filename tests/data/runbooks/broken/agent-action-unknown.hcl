# expect 4: unknown action `recover` in agent.g.on_dead
agent "g" {
  run     = "claude"
  on_dead = "recover"
}
