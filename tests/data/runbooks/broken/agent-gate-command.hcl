# expect 5: missing field `run` in agent.g.on_idle
# expect 5: unknown key `command` in agent.g.on_idle
agent "g" {
  run     = "claude"
  on_idle = { action = "gate", command = "make check" }
}
