# expect 6: unknown name `var.banch` in job.a.step[0](x).run
job "a" {
  vars = ["branch"]
  step "x" {
    run = <<-SH
      git checkout "${var.banch}"
    SH
  }
}
