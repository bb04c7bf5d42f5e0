# Where ways meet without running side by side: after a failure, in a circle, and after a fan-in.

# Branches that do not meet
command "meetings" {
  run = { job = "meetings" }
}

job "meetings" {
  step "begin" {
    run     = "true"
    on_fail = { step = "repair" }
    on_done = { step = ["left", "right"] }
  }

  step "repair" {
    run     = "true"
    on_done = { step = "begin" }
  }

  step "left" {
    run     = "true"
    on_done = { step = "left-end" }
    on_fail = { step = "tidy" }
  }

  step "left-end" {
    run     = "true"
    on_fail = { step = "tidy" }
  }

  step "right" {
    run     = "true"
    on_fail = { step = "tidy" }
  }

  step "join" {
    after   = ["left-end", "right"]
    run     = "true"
    on_done = { step = ["publish", "announce"] }
    on_fail = { step = "mend" }
  }

  step "mend" {
    run     = "true"
    on_done = { step = "publish" }
  }

  step "publish" { run = "true" }
  step "announce" { run = "true" }
  step "tidy" { run = "true" }
}
