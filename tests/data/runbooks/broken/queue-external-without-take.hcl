# expect 2: missing field `take` in queue.q
queue "q" {
  list = "gh issue list --json number"
}
