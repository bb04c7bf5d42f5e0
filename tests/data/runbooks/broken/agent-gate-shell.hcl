# expect 4: invalid shell command in agent.g.on_dead.run
agent "g" {
  run     = "claude"
  on_dead = { action = "gate", run = "test -f 'x" }
}
