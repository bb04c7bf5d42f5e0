# Release
# Build, test and tag a release on a branch of its own.
#
# Usage:
#   oj run release 1.4.0
#   oj run release 1.4.0 --base maintenance --dry-run

# Cut a release
# Builds and tests side by side, then tags
#
# The tag is pushed only when wheel, tests and documentation are all fine.
command "release" {
  args = "<version> [--base <ref>] [-n/--dry-run]"
  defaults = {
    base    = "main"
    dry-run = "false"
  }
  run = { job = "release" }
}

command "versions" {
  run = "git -C \"${workspace}\" tag --list --sort=-v:refname | head -n 20"
}

job "release" {
  name = "release ${var.version}"
  vars = ["version", "base", "dry-run"]
  defaults = {
    dry-run = "false"
  }

  source {
    git    = true
    branch = "release/${var.version}-${source.nonce}"
    ref    = "$(git rev-parse --verify \"${var.base}\")"
  }

  locals {
    summary = "${local.repo} ${var.version} from ${local.short}"
    short   = "$(git -C \"${source.repo_root}\" rev-parse --short \"${var.base}\")"
    repo    = "$(basename \"${source.repo_root}\")"
  }

  notify {
    on_start = "releasing ${local.summary}"
    on_done  = "released ${var.version}"
    on_fail  = "release ${var.version} failed: ${error}"
  }

  on_fail   = { step = "report" }
  on_cancel = { step = "report" }

  step "prepare" {
    run = <<-SHELL
      printf '%s\n' "${var.version}" > VERSION
      git commit --all --message "Version ${var.version}"
    SHELL
    on_done = { step = ["wheel", "tests", "docs"] }
  }

  # These three run at the same time.
  step "wheel" {
    run     = "python3 -m build --wheel"
    timeout = "10m"
  }

  step "tests" {
    run     = "python3 -m pytest -q 2>&1 | tee tests.log"
    timeout = "1h30m"
    retry   = { attempts = 1, backoff = "30s" }
    env = {
      PYTEST_ADDOPTS = "--color=no"
      CACHE          = "${XDG_CACHE_HOME:-/var/tmp}/release"
      RELEASE        = "${var.version}"
    }
  }

  step "docs" {
    run = "make -C docs html SPHINXOPTS=-W"
    cwd = "${workspace}"
  }

  step "tag" {
    after = ["wheel", "tests", "docs"]
    run   = <<-SHELL
      if [ "${var.dry-run}" = true ]; then
        echo "would tag ${var.version}"
        exit 0
      fi
      git tag --annotate "v${var.version}" --message "${local.summary}"
      git push origin "v${var.version}"
    SHELL
  }

  step "report" {
    run = "echo ${name} >> \"${source.repo_root}/../failed-releases\""
  }
}
