# expect 4: cron.c has both `interval` and `schedule`
cron "c" {
  interval = "1h"
  schedule = "0 * * * *"
  run      = "true"
}
