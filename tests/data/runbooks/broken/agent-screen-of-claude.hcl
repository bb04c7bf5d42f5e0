# expect 4: `screen` of agent.g: driver `claude` knows the screens of its program
agent "g" {
  run = "claude"
  screen {
    prompt = ["y/n"]
  }
}
