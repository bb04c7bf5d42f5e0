# expect 3: --session-id is managed automatically
agent "g" {
  run = "claude --session-id 5"
}
