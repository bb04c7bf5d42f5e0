# expect 6: unrecognized template namespace `vars` in agent.g.prompt
agent "g" {
  run = "claude"
  prompt = <<-TEXT
    Please do this:
    ${vars.task}
  TEXT
}
