# expect 6: invalid shell command in agent.g.prime[1]
agent "g" {
  run = "claude"
  prime = [
    "git status",
    "echo $(date",
  ]
}
