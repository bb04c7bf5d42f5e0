# expect 2: missing field `run` in agent.g
agent "g" {
  prompt = "hello"
}
