# expect 3: missing `]` for the list opened here
job "a" {
  vars = ["x",
