# expect 2: missing field `vars` in queue.q
queue "q" {
  type = "persisted"
}
