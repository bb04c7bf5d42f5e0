# expect 4: cron.c starts job `j` but gives no value for `branch`
cron "c" {
  interval = "1h"
  run      = { job = "j" }
}
job "j" {
  vars = ["branch"]
  step "x" { run = "true" }
}
