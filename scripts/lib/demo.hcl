# The runbook of scripts/demo, copied into a fresh clone of this repository.

# Build and test side by side, then report
#
# Makes a worktree on a branch of its own, builds the wheel and runs one test module at the same time, and commits a
# report of both on the branch, which stays when the worktree goes.
command "report" {
  args     = "[module]"
  defaults = { module = "tests/oj_daemon/core/test_job.py" }
  run      = { job = "report" }
}

job "report" {
  name = "report ${var.module}"

  source {
    git    = true
    branch = "report-${source.nonce}"
  }

  locals {
    commit = "$(git rev-parse --short HEAD)"
  }

  step "prepare" {
    run     = "mkdir -p out && git log -1 --format='%h %s' | tee out/commit.txt"
    on_done = ["wheel", "test"]
  }

  step "wheel" {
    run     = <<-BASH
      python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir out .
      ls -l out/*.whl
    BASH
    timeout = "10m"
  }

  step "test" {
    run     = "python -m pytest -q -p no:cacheprovider ${var.module} | tee out/test.txt"
    timeout = "10m"
    retry   = { attempts = 1, backoff = "1s" }
  }

  # Starts when both are done.
  step "commit" {
    after = ["wheel", "test"]
    run   = <<-BASH
      {
        echo "# Report on ${local.commit}"
        echo
        echo "- module: ${var.module}"
        echo "- result: $(tail -n 1 out/test.txt)"
        echo "- wheel:  $(cd out && ls *.whl)"
      } > REPORT.md
      git add REPORT.md
      git -c user.name=oj -c user.email=oj@localhost commit --quiet -m "Report on ${local.commit}"
      git show --stat --format='%h %s (on branch %D)' HEAD
    BASH
  }

  notify {
    on_done = "The report is on branch ${source.branch}"
  }
}

# Let an agent write a greeting, and commit what passes the check
#
# The agent asks whom to greet (a decision that the demo answers with `oj decision resolve`), forgets half of its work, is
# told so by the gate, and mends it. scripts/demo says which program plays the agent.
command "greet" {
  run = { job = "greet" }
}

job "greet" {
  source {
    git    = true
    branch = "greet-${source.nonce}"
  }

  step "write" {
    run     = { agent = "writer" }
    on_done = { step = "commit" }
  }

  step "commit" {
    run = <<-BASH
      git add GREETING.md
      git -c user.name=oj -c user.email=oj@localhost commit --quiet -m "A greeting, made by an agent"
      git show --format='%h %s (on branch %D)' HEAD
    BASH
  }
}

agent "writer" {
  run     = "claude --permission-mode acceptEdits"
  prompt  = <<-TEXT
    Ask me with the AskUserQuestion tool whom to greet: the world or the team.
    Then write a greeting of one line into the file GREETING.md. Nothing else.
  TEXT
  prime   = "git log --oneline -3"
  # Read by the scripted agent only: what it plays.
  env     = { AGENT_SCENARIO = "${invoke.dir}/.oj/demo-agent.json" }
  on_idle = {
    action   = "gate"
    run      = "grep -q '^Signed: ' GREETING.md || { echo 'GREETING.md has no line that begins with: Signed:'; exit 1; }"
    message  = "The check of your work says:"
    attempts = 3
  }
  on_dead = { action = "resume", attempts = 2 }
}

# A step that fails, and the step that its failure leads to
command "doomed" {
  run = { job = "doomed" }
}

job "doomed" {
  step "check" {
    run     = "echo 'looking for NEWS.md'; test -f NEWS.md"
    on_fail = { step = "explain" }
  }

  step "explain" {
    run = "echo 'there is no NEWS.md: that is why this job fails' && ls"
  }
}
