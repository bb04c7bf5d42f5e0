# expect 4: unknown name `eror` in job.a.notify.on_fail
job "a" {
  notify {
    on_fail = "${name} failed: ${eror}"
  }
  step "x" { run = "true" }
}
