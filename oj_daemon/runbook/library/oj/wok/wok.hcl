# Issue tracker queues
# Bugs and chores of a local issue tracker, each worked on by an agent.
#
# Usage:
#   oj run bug "crash on empty input"
#   oj run chore "update the licence year"
#   oj worker start bug
#
# The tracker is `wok` unless the constants say otherwise: `list` prints a JSON array of objects with `id` and `title`, the
# others get the id of an item as their last word.

# Prefix of the tracker's ids, for branch names.
const "prefix" {}

# Shell command that prints open items of a type, given as its last word.
const "list" { default = "wok ready -o json -t" }

# Shell command that claims an item.
const "start" { default = "wok start" }

# Shell command that closes an item.
const "done" { default = "wok done" }

# Shell command that gives an item back.
const "reopen" { default = "wok reopen" }

# Shell command that creates an item: type and title follow.
const "new" { default = "wok new" }

# Branch that work starts from.
const "base" { default = "main" }

# Shell command that has to succeed before an item is done.
const "check" { default = "true" }

# What happens to a finished branch, given as the last word of this shell command.
const "submit" { default = "oj run merge" }

# File a bug for the agents
command "bug" {
  args = "<title...>"
  run  = <<-SHELL
    ${raw(const.new)} bug "${args.title}"
  SHELL
}

# File a chore for the agents
command "chore" {
  args = "<title...>"
  run  = <<-SHELL
    ${raw(const.new)} chore "${args.title}"
  SHELL
}

queue "bugs" {
  list = "${raw(const.list)} bug"
  take = "${raw(const.start)} '${item.id}'"
  poll = "30s"
}

queue "chores" {
  list = "${raw(const.list)} chore"
  take = "${raw(const.start)} '${item.id}'"
  poll = "30s"
}

worker "bug" {
  source = { queue = "bugs" }
  run    = { job = "item" }
}

worker "chore" {
  source = { queue = "chores" }
  run    = { job = "item" }
}

job "item" {
  name = "${var.item.title}"
  vars = ["item"]

  source {
    git    = true
    branch = "${const.prefix}-${var.item.id}-${source.nonce}"
    ref    = "${const.base}"
  }

  on_fail   = { step = "reopen" }
  on_cancel = { step = "reopen" }

  step "work" {
    run     = { agent = "item" }
    on_done = { step = "check" }
  }

  step "check" {
    run = <<-SHELL
      ${raw(const.check)}
    SHELL
    on_done = { step = "submit" }
  }

  step "submit" {
    run = <<-SHELL
      ${raw(const.submit)} "${source.branch}"
      ${raw(const.done)} "${var.item.id}"
    SHELL
  }

  step "reopen" {
    run = <<-SHELL
      ${raw(const.reopen)} "${var.item.id}"
    SHELL
  }
}

agent "item" {
  run    = "claude --permission-mode acceptEdits"
  prompt = <<-TEXT
    Work on ${var.item.id}: ${var.item.title}

    ${var.item.description:-(There is no description.)}

    Make the change with its tests and commit it on the current branch. Do not push. When you are done, say so and stop.
  TEXT
  on_idle = {
    action   = "gate"
    run      = "test -z \"$(git status --porcelain)\" && test -n \"$(git log --oneline '${const.base}..HEAD')\""
    message  = "Nothing is committed yet, or there are uncommitted changes. Finish the work and commit it."
    attempts = 3
  }
  on_dead = { action = "resume", append = true, message = "You were interrupted. Carry on.", attempts = 2 }
}
