# expect 4: unknown key `on_exit` in agent.g
agent "g" {
  run     = "claude"
  on_exit = "done"
}
