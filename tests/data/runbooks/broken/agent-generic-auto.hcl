# expect 5: `on_idle = "auto"` of agent.g: driver `generic` cannot be kept from ending its turn
agent "g" {
  run     = "my-agent"
  driver  = "generic"
  on_idle = "auto"
}
