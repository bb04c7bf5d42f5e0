# expect 3: hour 25 is not between 0 and 23
cron "c" {
  schedule = "0 25 * * *"
  run      = "true"
}
