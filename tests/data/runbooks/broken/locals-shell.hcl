# expect 4: invalid shell command in job.j.locals.a: the substitution $( is not closed, or what is in it is not valid bash
job "j" {
  locals {
    a = "$(echo"
    b-c = "x"
  }
  step "s" { run = "true" }
}
