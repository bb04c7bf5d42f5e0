# expect 4: job.a.step[0](x).run references unknown agent `coder`
job "a" {
  step "x" {
    run = { agent = "coder" }
  }
}
