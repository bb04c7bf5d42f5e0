# expect 5: `on_dead = "resume"` of agent.g: driver `generic` cannot go on with a conversation in a new session
agent "g" {
  run     = "my-agent"
  driver  = "generic"
  on_dead = "resume"
}
