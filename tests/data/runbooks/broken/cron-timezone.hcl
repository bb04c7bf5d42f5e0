# expect 4: unknown time zone `Europe/Berlinn`
cron "c" {
  schedule = "0 7 * * *"
  timezone = "Europe/Berlinn"
  run      = "true"
}
