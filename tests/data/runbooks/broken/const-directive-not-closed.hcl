# expect 4: `%{ if }` is never closed
const "mode" { default = "a" }
job "j" {
%{ if const.mode == "a" }
  step "x" { run = "true" }
}
