# expect 5: `poll` of queue.q: `often` is not a duration
queue "q" {
  list = "echo []"
  take = "true"
  poll = "often"
}
