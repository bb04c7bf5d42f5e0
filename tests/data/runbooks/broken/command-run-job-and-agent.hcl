# expect 3: command.a.run names both a job and an agent
command "a" {
  run = { job = "j", agent = "g" }
}

job "j" {
  step "x" { run = "true" }
}

agent "g" {
  run = "claude"
}
