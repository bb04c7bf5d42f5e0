# expect 3: expected `=` or `{` after `run`, found `:`
command "a" {
  run: "true"
}
