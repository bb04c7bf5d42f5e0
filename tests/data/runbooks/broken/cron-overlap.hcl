# expect 4: `overlap` of cron.c cannot be `wait`
cron "c" {
  interval = "1h"
  overlap  = "wait"
  run      = "true"
}
