# Shell text that has to be accepted

job "shell" {
  locals { word = "x" }
  on_done = { step = "last" }

  step "simple" { run = "echo hello" }
  step "pipeline" { run = "printf 'b\\na\\n' | sort | uniq -c" }
  step "logical" { run = "true && false || true" }
  step "subshell" { run = "(cd /tmp && ls)" }
  step "nested" { run = "((ls); (ls; (ls)))" }
  step "group" { run = "{ echo a; echo b; }" }
  step "redirections" { run = "echo a > /dev/null 2>&1 < /dev/null >> /dev/null" }
  step "prefix" { run = "A=1 B=2 env" }
  step "variables" { run = "echo $HOME ${HOME} ${X:-default} ${HOME%/*} ${#HOME}" }
  step "substitution" { run = "echo $(date) `date` $((1 + 2))" }
  step "lines" {
    run = <<-SHELL
      echo one
      echo two \
        three

      # it's a comment with an apostrophe
      for x in a b; do
        echo "$x"
      done
    SHELL
  }
  step "background" { run = "sleep 0 & wait" }
  step "escapes" { run = "echo \\$x \\\"y\\\" a\\ b" }
  step "here-string" { run = "cat <<< hello" }
  step "here-document" {
    run = <<-SHELL
      cat <<EOF
      ${local.word} $HOME
      EOF
      cat <<'END'
      ${local.word} $HOME
      END
    SHELL
  }
  step "semicolons" { run = "a=1; b=2; echo $a$b" }
  step "case-and-function" {
    run = <<-SHELL
      greet() { case "$1" in a*) echo A ;; *) echo other ;; esac; }
      greet abc
      find . -name '*.tmp' -exec rm {} +
      echo {1..3} "$@"
      IFS=, read -r a b <<< "1,2"
    SHELL
  }
  step "last" { run = "true" }
}
