# expect 4: action `nudge` is not valid for agent.g.on_dead: a nudge needs a running agent
agent "g" {
  run     = "claude"
  on_dead = "nudge"
}
