# expect 3: expected `,` or a new line in the object
command "a" {
  defaults = { x = "1" y = "2" }
}
