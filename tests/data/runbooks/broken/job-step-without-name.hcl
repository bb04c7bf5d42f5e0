# expect 3: step name is required in job.a.step[0]
job "a" {
  step {
    run = "true"
  }
}
