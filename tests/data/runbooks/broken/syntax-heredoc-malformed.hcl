# expect 3: malformed heredoc
command "a" {
  run = << EOT
    true
  EOT
}
