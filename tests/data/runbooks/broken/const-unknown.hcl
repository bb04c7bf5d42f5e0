# expect 5: unknown const `prefixx` in job.j.step[0](x).run
const "prefix" { default = "oj" }

job "j" {
  step "x" { run = "echo ${const.prefixx}" }
}
