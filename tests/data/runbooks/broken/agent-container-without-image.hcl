# expect 4: missing field `image` in `container` of agent.g
agent "g" {
  run = "claude"
  container {
    cpu = "1"
  }
}
