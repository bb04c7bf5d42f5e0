# A project that uses the built-in libraries

import "oj/git" {
  alias = "git"
  const "base" { value = "trunk" }
  const "check" {
    value = "make check\nmake lint"
  }
}

import "oj/github" {
  const "concurrency" { value = "3" }
}

import "oj/wok" {
  alias = "wok"
  const "prefix" { value = "shop" }
}

import "oj/claude" {
  alias = "claude"
}

# Local, so it is what `oj run plan` means.
command "plan" {
  run = "cat PLAN.md"
}

command "night" {
  run = { job = "git:merge" }
  args = "<mr>"
}
