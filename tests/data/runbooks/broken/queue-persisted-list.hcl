# expect 5: queue.q must not have `list`
queue "q" {
  type = "persisted"
  vars = ["x"]
  list = "true"
}
