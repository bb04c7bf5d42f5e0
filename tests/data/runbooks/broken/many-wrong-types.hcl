# expect 22: command.a.run: only an agent can be attached to
# expect 23: `args` of command.a must be a string, not a number
# expect 26: command.b.run says nothing
# expect 28: `x` in `defaults` of command.b must be a string, not true or false
# expect 31: command.c.run cannot be true or false
# expect 33: command takes one label
# expect 34: `job` must hold job definitions by name, not a number
# expect 36: `source` takes no label
# expect 38: `concurrency` of worker.w must be a whole number, not a string
# expect 41: `interval` of cron.c must be a duration, not true or false
# expect 42: unknown key `attach` in cron.c.run
# expect 43: `concurrency` of cron.c is too large
# expect 47: `x` is twice in `vars` of queue.q
# expect 47: `a b` in `vars` of queue.q is not a name
# expect 47: an item in `vars` of queue.q must be a string, not a number
# expect 48: queue.q must not have `poll`
# expect 49: `attempts` of `retry` of queue.q must be a whole number, not `2.5`
# expect 50: `defaults` of queue.q sets `y`, which is not in `vars`
# expect 53: `vars` of job.j must be a list of strings, not an object
# expect 58: `max_concurrency` of agent.a must be a whole number, not null
command "a" {
  run  = { job = "j", attach = true }
  args = 5
}
command "b" {
  run  = {}
  args = "[x]"
  defaults = { x = true }
}
command "c" {
  run = true
}
command "d" "e" { run = "true" }
job = 5
worker "w" {
  source "x" { queue = "q" }
  run         = { job = "j" }
  concurrency = "two"
}
cron "c" {
  interval    = true
  run         = { agent = "a", attach = true }
  concurrency = 5000000
}
queue "q" {
  type  = "persisted"
  vars  = ["x", "x", "a b", 5]
  poll  = "1m"
  retry = { attempts = 2.5 }
  defaults = { y = "1" }
}
job "j" {
  vars = { x = "1" }
  step "s" { run = "true" }
}
agent "a" {
  run             = "claude"
  max_concurrency = null
}
