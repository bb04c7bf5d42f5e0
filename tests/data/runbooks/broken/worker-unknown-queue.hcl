# expect 3: worker.w.source.queue references unknown queue `merge`
worker "w" {
  source = { queue = "merge" }
  run    = { job = "j" }
}
queue "merges" {
  type = "persisted"
  vars = ["x"]
}
job "j" {
  step "x" { run = "true" }
}
