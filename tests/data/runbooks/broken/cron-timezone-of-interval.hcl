# expect 4: `timezone` of cron.c has no effect on an interval
cron "c" {
  interval = "1h"
  timezone = "UTC"
  run      = "true"
}
