# expect 3: `${item.id}` is not available in queue.q.list
queue "q" {
  list = "gh issue view ${item.id}"
  take = "true"
}
