# expect 5: `concurrency` of worker.w must be >= 1
worker "w" {
  source      = { queue = "q" }
  run         = { job = "j" }
  concurrency = 0
}
queue "q" {
  type = "persisted"
  vars = ["x"]
}
job "j" {
  step "x" { run = "true" }
}
