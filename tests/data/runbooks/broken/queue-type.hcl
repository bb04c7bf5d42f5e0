# expect 3: `type` of queue.q cannot be `persistent`
queue "q" {
  type = "persistent"
  list = "echo []"
  take = "true"
}
