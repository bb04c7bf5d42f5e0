# expect 25: agent.a.run must not include positional arguments when a prompt is configured
# expect 26: `prompt_file` of agent.a is empty
# expect 29: agent.a.prime.clear is empty
# expect 30: nested per-source prime is not allowed (agent.a.prime.resume)
# expect 35: agent.b.prime is empty
# expect 36: agent.b.on_error is empty
# expect 37: missing field `run` in agent.b.on_idle
# expect 38: action `nudge` is not valid for agent.b.on_prompt: the agent is at a prompt, not idle
# expect 39: missing field `default` in agent.b.on_dead
# expect 44: `message` belongs to action `nudge` or `resume` or `gate` or `escalate`, not `done` (agent.c.on_idle)
# expect 44: `append` belongs to action `resume`, not `done` (agent.c.on_idle)
# expect 44: `run` belongs to action `gate`, not `done` (agent.c.on_idle)
# expect 44: `timeout` belongs to action `escalate`, not `done` (agent.c.on_idle)
# expect 44: `default` belongs to action `escalate`, not `done` (agent.c.on_idle)
# expect 45: missing field `action` in agent.c.on_dead
# expect 46: `match` of agent.c.on_error belongs into a list
# expect 47: agent.c.on_prompt must be an object, not a number
# expect 48: `container` of agent.c is empty
# expect 49: agent.c.prime[1] must be a string, not a number
# expect 54: `image` of `container` of agent.d is empty
# expect 55: `pod` of `container` of agent.d must be an object, not a list
# expect 63: unexpected label after `spec`
# expect 64: `spec` is set twice
agent "a" {
  run         = "claude -- now"
  prompt_file = ""
  prime {
    startup = "true"
    clear = []
    resume {}
  }
}
agent "b" {
  run       = "claude"
  prime     = []
  on_error  = []
  on_idle   = "gate"
  on_prompt = "nudge"
  on_dead   = { action = "escalate", timeout = "4h" }
}
agent "c" {
  run       = "claude"
  prompt    = "x"
  on_idle   = { action = "done", message = "x", append = true, run = "true", timeout = "1h", default = "done" }
  on_dead   = { message = "x" }
  on_error  = { action = "fail", match = "rate_limited" }
  on_prompt = 5
  container = ""
  prime     = ["true", 5]
}
agent "d" {
  run = "claude"
  container {
    image = ""
    pod   = []
  }
}
agent "e" {
  run = "claude"
  container {
    image = "x"
    pod {
      spec "x" { a = 1 }
      spec { a = 2 }
    }
  }
}
