# GitHub issues worked on by an agent
# Take labelled issues, let an agent work on each, open a pull request.
#
# Usage:
#   oj run issue "The build is slow" --label ready
#   oj worker start issue
#
# Needs the GitHub CLI `gh`, logged in. An issue with the label `ready` is claimed by replacing the label, worked on in
# a worktree of its own, and ends as a pull request that closes it. When the work fails, the issue is labelled for people.

# Label of issues that may be taken.
const "label" { default = "ready" }

# Label of issues that are being worked on.
const "claimed" { default = "in-progress" }

# Label of issues that need a person.
const "stuck" { default = "needs-attention" }

# Branch that work starts from and pull requests go to.
const "base" { default = "main" }

# Shell command that has to succeed before a pull request is opened.
const "check" { default = "true" }

# How many issues are worked on at the same time.
const "concurrency" { default = "1" }

# The program that does the work.
const "agent" { default = "claude --permission-mode acceptEdits" }

# Create an issue for the agents
command "issue" {
  args = "<title> [--body <text>] [--label <name>]"
  defaults = {
    body  = ""
    label = "${const.label}"
  }
  run = <<-SHELL
    gh issue create --title "${args.title}" --body "${args.body}" --label "${args.label}"
  SHELL
}

queue "issues" {
  list = <<-SHELL
    gh issue list --state open --label "${const.label}" --limit 50 --json number,title,body |
      jq '[.[] | {id: (.number | tostring), number: (.number | tostring), title, body}]'
  SHELL
  take = <<-SHELL
    gh issue edit "${item.number}" --remove-label "${const.label}" --add-label "${const.claimed}"
  SHELL
  poll = "1m"
}

worker "issue" {
  source      = { queue = "issues" }
  run         = { job = "issue" }
  concurrency = ${raw(const.concurrency)}
}

job "issue" {
  name = "${var.issue.title}"
  vars = ["issue"]

  source {
    git    = true
    branch = "issue-${var.issue.number}-${source.nonce}"
    ref    = "${const.base}"
  }

  on_fail   = { step = "give-back" }
  on_cancel = { step = "give-back" }

  step "work" {
    run     = { agent = "issue" }
    on_done = { step = "check" }
  }

  step "check" {
    run = <<-SHELL
      ${raw(const.check)}
    SHELL
    on_done = { step = "propose" }
  }

  step "propose" {
    run = <<-SHELL
      git push --set-upstream origin HEAD
      gh pr create --base "${const.base}" --title "${var.issue.title}" --body "Closes #${var.issue.number}"
    SHELL
  }

  step "give-back" {
    run = <<-SHELL
      gh issue edit "${var.issue.number}" --remove-label "${const.claimed}" --add-label "${const.stuck}"
    SHELL
  }
}

agent "issue" {
  run = <<-SHELL
    ${raw(const.agent)}
  SHELL
  prompt = <<-TEXT
    Work on issue #${var.issue.number} of this repository: ${var.issue.title}

    ${var.issue.body:-(The issue has no description.)}

    Make the change with its tests and commit it on the current branch. Do not push. When you are done, say so and stop.
  TEXT
  on_idle = {
    action   = "gate"
    run      = "test -z \"$(git status --porcelain)\" && test -n \"$(git log --oneline '${const.base}..HEAD')\""
    message  = "Nothing is committed yet, or there are uncommitted changes. Finish the work and commit it."
    attempts = 3
  }
  on_dead = { action = "resume", append = true, message = "You were interrupted. Carry on.", attempts = 2 }
  on_error = [
    { match = "rate_limited", action = "resume", append = true, message = "Carry on.", attempts = "forever", cooldown = "5m" },
    { action = "escalate" },
  ]
}
