# expect 3: expected an attribute or block name
command "a" {
  "run" = "true"
}
