"""What tests of agents share: a user whose `claude` is the scripted agent, and what it is told.

Rule: black box, as in world.py; times that only make people comfortable are cut, so that tests need not wait for them.
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.waiting import until
from tests.support.world import ROOT, World

FAST = {
    "OJ_SIDECAR_INPUT_DELAY_MS": "10",
    "OJ_SIDECAR_INPUT_DELAY_PER_BYTE_MS": "0",
    "OJ_SIDECAR_IDLE_GRACE_MS": "100",
    "OJ_SIDECAR_SETTLE_MS": "100",
    "OJ_SIDECAR_SCREEN_POLL_MS": "100",
    "OJ_SIDECAR_LOG_POLL_MS": "50",
    "OJ_SIDECAR_GROOM_DISMISS_DELAY_MS": "50",
    "OJ_SIDECAR_DRAIN_TIMEOUT_MS": "100",
    "OJ_SIDECAR_SHUTDOWN_TIMEOUT_MS": "500",
}
DONE_WHEN_WRITTEN = """
      on_idle = {
        action = "gate"
        run    = "until grep -qs turn_duration ~/.claude/projects/*/*.jsonl; do sleep 0.05; done"
      }
"""
"""For an agent of which a test reads the whole log: it is known to be idle by a hook, and would be ended then, perhaps before
it has written that its turn is over, as every agent does after that hook."""
STEPS = """
step "code" {
  run     = { agent = "coder" }
  on_done = [{ step = "commit" }]
}
step "commit" { run = "echo committed" }
"""


def equip(world: World) -> World:
    """Put the scripted agent on the PATH as `claude`, and let sidecars be quick."""
    world.environ["PATH"] = f"{ROOT / 'tests/support/agent'}:{world.environ['PATH']}"
    world.environ |= FAST
    return world


def runbook(world: World, agent: str = "", steps: str = STEPS) -> None:
    """Write a runbook with the agent `coder` and the job `build`."""
    text = f"""
    command "build" {{ run = {{ job = "build" }} }}
    agent "coder" {{
      run    = "claude"
      prompt = "Please do it."
      {agent}
    }}
    job "build" {{
      {steps}
    }}
    """
    (world.project / ".oj/runbooks/main.hcl").write_text(text)


def scenario(world: World, *turns: dict[str, Any], **more: Any) -> None:
    """Write what agents of the project do."""
    (world.project / "agent-scenario.json").write_text(json.dumps({"turns": list(turns), **more}))


def turn(*actions: dict[str, Any], when: str = "", **more: Any) -> dict[str, Any]:
    """One turn of a scenario."""
    return {"when": when, "do": list(actions), **more}


def decision(world: World) -> dict[str, Any]:
    """The decision that is open, once there is one."""
    found: list[Any] = []

    def is_there() -> bool:
        found[:] = world.oj("decision", "list", "-o", "json").json
        return bool(found)

    until(is_there, 60, "a decision is open", pause=0.2)
    shown: dict[str, Any] = world.oj("decision", "show", found[0]["id"], "-o", "json").json
    return shown


def agents(world: World, job_id: str) -> list[dict[str, Any]]:
    """The sessions of a job, newest first."""
    listed: list[dict[str, Any]] = world.oj("agent", "list", "--job", job_id, "-o", "json").json
    return listed
