# expect 3: agent.g.run must not include positional arguments when a prompt is configured
agent "g" {
  run    = "claude --model opus 'do it'"
  prompt = "do that"
}
