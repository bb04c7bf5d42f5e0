# expect 5: agent.g has both `prompt` and `prompt_file`
agent "g" {
  run         = "claude"
  prompt      = "x"
  prompt_file = "prompts/x.md"
}
