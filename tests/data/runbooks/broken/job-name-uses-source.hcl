# expect 4: `${source.nonce}` is not available in job.a.name
job "a" {
  source = "folder"
  name   = "x-${source.nonce}"
  step "x" { run = "true" }
}
