# Two things to begin with
#
# A command that starts a job, and one that runs a few lines of shell.
# Change them, or delete this file and write your own.

# Say hello
#
# A command whose `run` is text is run by bash right here, in this terminal.
# Try: oj run hello, oj run hello Ada --loud
command "hello" {
  args     = "[name] [--loud]"
  defaults = { name = "world", loud = "" }

  # Values arrive as data: whatever is typed for NAME, it never becomes a part of this script.
  run = <<-SHELL
    greeting="Hello, ${args.name}!"
    if [ -n "${args.loud}" ]; then
      greeting=$(printf '%s' "$greeting" | tr '[:lower:]' '[:upper:]')
    fi
    echo "$greeting"
  SHELL
}

# Count files and words in parallel
#
# A command whose `run` names a job hands it to the daemon, which sees it through
# even if this terminal is closed. Try: oj run count, oj run count --word FIXME
command "count" {
  args     = "[--word <text>]"
  defaults = { word = "TODO" }
  run      = { job = "count" }
}

job "count" {
  name = "count ${var.word}"
  vars = ["word"]

  # The steps share an empty folder of their own, kept when the job fails and removed otherwise.
  # `source = { git = true }` makes it a git worktree with a branch; without `source` steps run right in the project.
  source = "folder"

  # `on_done` leads on. A list starts several steps at once.
  step "prepare" {
    run     = "echo \"looking into ${invoke.dir}\""
    on_done = { step = ["files", "words"] }
  }

  step "files" {
    run = <<-SHELL
      find "${invoke.dir}" -type f -not -path '*/.git/*' | wc -l > files.txt
    SHELL
  }

  # A step that takes too long is ended, and one that fails is tried again.
  step "words" {
    run = <<-SHELL
      grep -rIlF --exclude-dir=.git -e "${var.word}" -- "${invoke.dir}" > words.txt || test $? -eq 1
    SHELL
    timeout = "1m"
    retry   = { attempts = 1, backoff = "2s" }
  }

  # `after` waits for all of these steps.
  step "report" {
    after = ["files", "words"]
    run   = <<-SHELL
      echo "files:            $(cat files.txt)"
      echo "files that match: $(wc -l < words.txt)"
    SHELL
  }

  # Where the job goes when a step fails.
  on_fail = { step = "explain" }

  step "explain" {
    run = "echo 'a step failed; its output is above, and in the log that oj logs shows'"
  }
}
