# expect 2: missing `}` for the block opened here
command "a" {
  run = "true"
