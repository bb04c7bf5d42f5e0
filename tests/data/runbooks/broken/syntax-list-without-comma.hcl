# expect 3: expected `,` or `]` in the list
job "a" {
  vars = ["x" "y"]
}
