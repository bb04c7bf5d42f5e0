# expect 3: expected a value after `run =`
command "a" {
  run = 'true'
}
