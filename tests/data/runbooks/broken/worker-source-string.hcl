# expect 3: `source` of worker.w must be an object, not a string
worker "w" {
  source = "q"
  run    = { job = "j" }
}
job "j" {
  step "x" { run = "true" }
}
