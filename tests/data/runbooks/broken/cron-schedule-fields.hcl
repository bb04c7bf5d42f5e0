# expect 3: a cron expression has five fields, this has 4
cron "c" {
  schedule = "0 7 * *"
  run      = "true"
}
