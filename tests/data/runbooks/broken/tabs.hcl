# expect 4: unknown key `tmeout` in job.b.step[0](x)
job "b" {
	step "x" {
		tmeout = "5m"
		run = "true"
	}
}
