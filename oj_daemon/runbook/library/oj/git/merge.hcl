# Local merge queue
# Merge branches one after another, each checked before it lands.
#
# Usage:
#   oj run merge my-branch
#   oj queue show merges
#
# A branch is merged in a worktree of its own and checked there. Only what passes moves the base branch, and only
# forward. A branch that does not merge or does not pass is tried again once, then it waits in the queue as dead.

# Branch that everything is merged into.
const "base" { default = "main" }

# Shell command that has to succeed before a merge lands.
const "check" { default = "true" }

# Remote that the base branch is pushed to after each merge; empty: none.
const "remote" { default = "" }

# Queue a branch for merging
command "merge" {
  args = "<branch> [--title <text>]"
  defaults = {
    title = ""
  }
  run = <<-SHELL
    branch="${args.branch}"
    git rev-parse --verify --quiet "refs/heads/$branch^{commit}" > /dev/null || {
      echo "no local branch named $branch" >&2
      exit 1
    }
    oj queue push merges --var "branch=$branch" --var "title=${args.title}"
  SHELL
}

queue "merges" {
  type = "persisted"
  vars = ["branch", "title"]
  defaults = {
    title = ""
  }
  retry = { attempts = 1, cooldown = "1m" }
}

worker "merge" {
  source      = { queue = "merges" }
  run         = { job = "merge" }
  concurrency = 1
}

job "merge" {
  name = "merge ${var.mr.branch}"
  vars = ["mr"]

  source {
    git = true
    ref = "${const.base}"
  }

  notify {
    on_done = "merged ${var.mr.branch} into ${const.base}"
    on_fail = "${var.mr.branch} was not merged: ${error}"
  }

  step "merge" {
    run = <<-SHELL
      title="${var.mr.title}"
      branch="${var.mr.branch}"
      git merge --no-ff -m "$${title:-Merge $branch}" "refs/heads/$branch"
    SHELL
    on_done = { step = "check" }
  }

  step "check" {
    run = <<-SHELL
      ${raw(const.check)}
    SHELL
    on_done = { step = "land" }
  }

  step "land" {
    run = <<-SHELL
      head="$(git rev-parse HEAD)"
      cd "${source.repo_root}"
      if [ "$(git symbolic-ref --quiet --short HEAD || true)" = "${const.base}" ]; then
        git merge --ff-only "$head"
      else
        # Pushing to the repository itself refuses whatever is not a fast-forward.
        git push --quiet . "$head:refs/heads/${const.base}"
      fi
%{ if const.remote != "" }
      git push "${const.remote}" "refs/heads/${const.base}:refs/heads/${const.base}"
%{ endif }
    SHELL
  }
}
