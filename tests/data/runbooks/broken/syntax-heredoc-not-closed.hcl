# expect 3: heredoc <<EOT is never closed
command "a" {
  run = <<EOT
    true
}
