# expect 6: unknown key `promt` in `screen` of agent.g
agent "g" {
  run    = "my-agent"
  driver = "generic"
  screen {
    promt = ["y/n"]
  }
}
