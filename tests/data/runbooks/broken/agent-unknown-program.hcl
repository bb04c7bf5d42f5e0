# expect 3: unrecognized agent command `cluade` in agent.g.run
agent "g" {
  run = "cluade --model x"
}
