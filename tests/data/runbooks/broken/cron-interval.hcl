# expect 3: `interval` of cron.c: unknown unit `w`
cron "c" {
  interval = "1w"
  run      = "true"
}
