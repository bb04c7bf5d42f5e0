# expect 3: command.a.run references unknown job `biuld`
command "a" {
  run = { job = "biuld" }
}

job "build" {
  step "x" { run = "true" }
}
