# expect 6: `prompt` of `screen` of agent.g is no regular expression: missing )
agent "g" {
  run    = "my-agent"
  driver = "generic"
  screen {
    prompt = ["(y|n"]
  }
}
