# expect 2: missing field `interval` in cron.c
cron "c" {
  run = "true"
}
