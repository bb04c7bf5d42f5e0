# expect 4: nested per-source prime is not allowed
agent "g" {
  run   = "claude"
  prime = { startup = { resume = "git status" } }
}
