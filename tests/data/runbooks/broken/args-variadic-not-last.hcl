# expect 3: variadic must be last
command "a" {
  args = "<all...> <b>"
  run  = "true"
}
