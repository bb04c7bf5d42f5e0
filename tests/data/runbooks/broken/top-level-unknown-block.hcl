# expect 2: unknown key `comand` in the runbook
comand "a" {
  run = "true"
}
