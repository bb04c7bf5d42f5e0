# expect 5: `cooldown` of `retry` of queue.q: `-5s` is not a duration
queue "q" {
  type  = "persisted"
  vars  = ["x"]
  retry = { attempts = 2, cooldown = "-5s" }
}
