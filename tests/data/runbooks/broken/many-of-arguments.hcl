# expect 14: `positional` of `args` of command.a must be a list of objects, not a string
# expect 15: `a b` is not the name of an argument
# expect 15: missing field `name` in `flags` of `args` of command.a
# expect 15: short form `yy` is not one letter
# expect 16: `options` of `args` of command.a must be an object, not a number
# expect 16: unknown key `requird` in `options` of `args` of command.a
# expect 17: `required` of `variadic` of `args` of command.a must be true or false, not a string
# expect 22: `args` of command.b: optional positional `x` cannot precede required `y`
# expect 26: `args` of command.c: invalid argument syntax: `<b c>` is not one `<value>`
# expect 30: `a b` in `defaults` of command.d is not a name
command "a" {
  run  = "true"
  args = {
    positional = "x"
    flags      = [{ name = "a b" }, { short = "x" }, { name = "y", short = "yy" }]
    options    = [5, { name = "o", requird = true }]
    variadic   = { name = "rest", required = "yes" }
  }
}
command "b" {
  run  = "true"
  args = { positional = [{ name = "x", required = false }, { name = "y" }] }
}
command "c" {
  run  = "true"
  args = "[-a <b c>]"
}
command "d" {
  run      = "true"
  defaults = { "a b" = "x" }
}
