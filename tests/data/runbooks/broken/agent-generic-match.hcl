# expect 5: `on_error` of agent.g: driver `generic` cannot tell kinds of errors apart
agent "g" {
  run      = "my-agent"
  driver   = "generic"
  on_error = [{ match = "rate_limited", action = "fail" }]
}
