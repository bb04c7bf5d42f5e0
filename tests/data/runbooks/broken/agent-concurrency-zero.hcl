# expect 4: `max_concurrency` of agent.g must be >= 1
agent "g" {
  run             = "claude"
  max_concurrency = 0
}
