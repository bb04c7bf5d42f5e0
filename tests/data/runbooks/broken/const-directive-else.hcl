# expect 5: `%{ else }` without `%{ if }`
const "mode" { default = "a" }
job "j" {
  step "x" { run = "true" }
%{ else }
}
