# expect 5: `prime` of agent.g: driver `generic` cannot be given context at session start
agent "g" {
  run    = "my-agent"
  driver = "generic"
  prime  = "git status"
}
