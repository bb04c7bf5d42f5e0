# Every way to write fan-out and fan-in

job "strings" {
  step "a" {
    run     = "true"
    on_done = ["b", "c"]
  }
  step "b" { run = "true" }
  step "c" { run = "true" }
  step "d" {
    run   = "true"
    after = ["b", "c"]
  }
}

job "objects" {
  step "a" {
    run     = "true"
    on_done = [{ step = "b" }, { step = "c" }]
  }
  step "b" {
    run     = "true"
    on_done = { step = "b2" }
  }
  step "b2" { run = "true" }
  step "c" { run = "true" }
  step "d" {
    run     = "true"
    after   = ["b2", "c"]
    on_done = { step = ["e", "f"] }
  }
  step "e" { run = "true" }
  step "f" { run = "true" }
  step "g" {
    run   = "true"
    after = ["e", "f"]
  }
}

job "job-level" {
  on_done = ["b", { step = "c" }]
  on_fail = { step = "d" }
  step "a" { run = "true" }
  step "b" { run = "true" }
  step "c" { run = "true" }
  step "d" { run = "true" }
}

job "loop" {
  step "try" {
    run     = "make check"
    on_done = { step = "done" }
    on_fail = { step = "repair" }
  }
  step "repair" {
    run     = "make fix"
    on_done = { step = "try" }
  }
  step "done" { run = "true" }
}
