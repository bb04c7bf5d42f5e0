# Agents with everything they can have

command "fix" {
  args = "<task...> [--model <name>]"
  defaults = { model = "sonnet" }
  run = { job = "fix" }
}

command "talk" {
  args = "<task...>"
  run  = { agent = "coder", attach = true }
}

command "quick" {
  args = "<task...>"
  run  = { agent = "other" }
}

job "fix" {
  vars   = ["task", "model"]
  source = "folder"
  step "work" {
    run     = { agent = "coder" }
    on_done = { step = "check" }
  }
  step "check" {
    run     = "make check"
    on_fail = { step = "work" }
  }
}

agent "coder" {
  run             = "claude --model ${var.model:-sonnet} --permission-mode acceptEdits"
  prompt          = <<-TEXT
    ${var.task}

    The job is ${name} (${job_id:-no job}); work in ${workspace}. Write $${literally} this.
  TEXT
  max_concurrency = 2
  cwd             = "${workspace}"
  env = {
    TASK = "${var.task:0:72}"
  }
  prime = {
    startup = ["git status --short", "git log --oneline -5"]
    resume  = <<-SHELL
      git diff --stat
      echo "${var.task}"
    SHELL
  }
  on_idle = { action = "gate", run = "make check", message = "make check fails", attempts = "forever", cooldown = "30s" }
  on_dead = { action = "resume", append = true, message = "Carry on with ${var.task}", attempts = 3 }
  on_prompt = { action = "escalate", timeout = "4h", default = "deny" }
  on_error = [
    { match = "unauthorized", action = "escalate" },
    { match = "rate_limited", action = "resume", attempts = "forever", cooldown = "5m" },
    { match = "no_internet", action = "gate", run = "curl --silent --fail https://example.org" },
    { action = "fail" },
  ]
  notify {
    on_start = "${agent} started"
    on_fail  = "${agent} in ${step}: ${error}"
  }
  container {
    image    = "registry.example.org/agent:1"
    cpu      = "2"
    memory   = "4Gi"
    requests = { cpu = "500m" }
    limits   = { memory = "8Gi" }
    pod = {
      nodeSelector = { pool = "agents" }
      tolerations  = [{ key = "agents", operator = "Exists" }]
      priority     = 5
    }
  }
}

agent "other" {
  run         = "my-agent --prompt \"$PROMPT\""
  driver      = "generic"
  prompt_file = "prompts/other.md"
  on_idle     = "nudge"
  on_dead     = "fail"
  on_prompt   = "escalate"
  on_error    = "escalate"
  container   = "registry.example.org/other"
}

agent "placed" {
  run    = "exec claude --print \"${prompt}\""
  driver = "claude"
  prime  = "git status"
  prompt = "hello"
}

agent "variable" {
  run    = "$AGENT --anything at all"
  prompt = "hello"
}

agent "many" {
  run    = "CLAUDE_DEBUG=1 claude --add-dir a b c --allowed-tools Read Write --model opus -p ${prompt} | tee log"
  prompt = "hello"
}
