# expect 4: command.a starts job `j` but gives no value for `branch`
command "a" {
  args = "<name>"
  run  = { job = "j" }
}

job "j" {
  vars = ["name", "branch"]
  step "x" { run = "true" }
}
