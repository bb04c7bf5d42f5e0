# expect 3: there is no such day in these months
cron "c" {
  schedule = "0 0 30 2 *"
  run      = "true"
}
