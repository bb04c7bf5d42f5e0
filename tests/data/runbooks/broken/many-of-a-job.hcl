# expect 26: `git` of job.a.source must be true, not a string
# expect 27: unknown key `env` in job.a
# expect 28: step takes one label
# expect 30: job.a.step[1](empty).run says nothing
# expect 31: `after` of job.a.step[1](empty) names no step
# expect 35: `OJ_V1` is reserved for oj itself
# expect 35: `OJ_STEP` is reserved for oj itself
# expect 36: missing field `attempts` in `retry` of job.a.step[2](reserved)
# expect 37: `on_done` of job.a.step[2](reserved) names step `x` twice
# expect 38: missing field `step` in `on_fail` of job.a.step[2](reserved)
# expect 41: job.a.step[3](lists).run cannot be a number
# expect 42: `on_done` of job.a.step[3](lists) names no step
# expect 43: `on_fail` of job.a.step[3](lists) leads to one step only here
# expect 44: `on_cancel` of job.a.step[3](lists) leads to one step only
# expect 48: `after` of job.a.step[4](after) names `x` twice
# expect 52: `on_done` of job.a.step[5](none) names no step
# expect 54: unknown key `needs` in job.a.step[5](none)
# expect 57: `agent` of job.a.step[6](agent).run must be a string, not a number
# expect 57: unknown key `attach` in job.a.step[6](agent).run
# expect 59: `on_done` of job.a must be an object, not a number
# expect 62: missing field `git` in job.b.source
# expect 63: `${name}` cannot be the name of a step
# expect 64: steps of job.b must be blocks, not a string
# expect 66: the name of this job is longer than 64 characters
job "a" {
  source { git = "yes" }
  env = { X = "1" }
  step "x" "y" { run = "true" }
  step "empty" {
    run   = {}
    after = []
  }
  step "reserved" {
    run     = "true"
    env     = { OJ_V1 = "x", OJ_STEP = "y" }
    retry   = { backoff = "5s" }
    on_done = ["x", "x"]
    on_fail = {}
  }
  step "lists" {
    run       = 5
    on_done   = { step = [] }
    on_fail   = { step = ["x"] }
    on_cancel = []
  }
  step "after" {
    run   = "true"
    after = ["x", "x"]
  }
  step "none" {
    run     = "true"
    on_done = []
    after   = ["x"]
    needs   = ["x"]
  }
  step "agent" {
    run = { agent = 5, attach = true }
  }
  on_done = 5
}
job "b" {
  source { branch = "x" }
  step "${name}" { run = "true" }
  steps = "x"
}
job "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc" {
  step "x" { run = "true" }
}
