# expect 4: unknown prime source `start` in agent.g.prime
agent "g" {
  run   = "claude"
  prime = { start = "git status" }
}
