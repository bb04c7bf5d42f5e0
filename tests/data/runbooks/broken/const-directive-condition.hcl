# expect 4: malformed condition
const "mode" { default = "a" }
job "j" {
%{ if const.mode = "a" }
  step "x" { run = "true" }
%{ endif }
}
