# Claude Code from the command line
# Plan a piece of work, or have a small team carry it out.
#
# Usage:
#   oj run plan "split the settings module"
#   oj run team "split the settings module" --size 3

# Model to ask for; empty: the program's own choice.
const "model" { default = "" }

# Work out a plan together with an agent that changes nothing
command "plan" {
  args = "<request...>"
  run  = { agent = "plan", attach = true }
}

# Have one agent lead several others
command "team" {
  args = "<request...> [--size <n>]"
  defaults = {
    size = "3"
  }
  run = { agent = "team", attach = true }
}

agent "plan" {
%{ if const.model == "" }
  run = "claude --permission-mode plan"
%{ else }
  run = "claude --permission-mode plan --model '${const.model}'"
%{ endif }
  prompt = <<-TEXT
    Make a plan for the following request. Read what you need to read, change nothing, and ask when something is unclear.

    ${var.request}
  TEXT
  on_idle = "escalate"
}

agent "team" {
%{ if const.model == "" }
  run = "claude"
%{ else }
  run = "claude --model '${const.model}'"
%{ endif }
  prompt = <<-TEXT
    You lead a team of up to ${var.size} helpers. Divide the request below into parts that can be worked on at the same
    time, hand each part to a helper with everything it has to know, and put the results together yourself.

    ${var.request}
  TEXT
  on_idle = "escalate"
}
