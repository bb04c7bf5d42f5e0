# expect 5: invalid shell command in command.a.run
command "a" {
  run = <<-SH
    echo fine
    echo "not closed
  SH
}
