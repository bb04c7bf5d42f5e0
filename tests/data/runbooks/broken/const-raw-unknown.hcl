# expect 4: unknown const `modus`
const "mode" { default = "a" }
job "j" {
  step "x" { run = "echo ${raw(const.modus)}" }
}
