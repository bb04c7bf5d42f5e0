# expect 4: `driver` of agent.g cannot be `codex`
agent "g" {
  run    = "codex"
  driver = "codex"
}
