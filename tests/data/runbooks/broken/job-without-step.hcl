# expect 2: missing field `step` in job.a
job "a" {
  vars = ["x"]
}
