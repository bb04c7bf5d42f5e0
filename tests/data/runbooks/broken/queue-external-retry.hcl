# expect 5: queue.q must not have `retry`
queue "q" {
  list  = "gh issue list --json number"
  take  = "true"
  retry = { attempts = 1 }
}
