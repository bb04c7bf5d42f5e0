# expect 3: missing field `run` in worker.w
# expect 5: unknown key `handler` in worker.w
worker "w" {
  source  = { queue = "q" }
  handler = { job = "j" }
}
queue "q" {
  type = "persisted"
  vars = ["x"]
}
