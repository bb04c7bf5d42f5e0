# expect 4: const `mode` is defined twice
# expect 5: unknown key `value` in const "other"
const "mode" { default = "a" }
const "mode" { default = "b" }
const "other" { value = "b" }
