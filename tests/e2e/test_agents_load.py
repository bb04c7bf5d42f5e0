"""Many agents at once, on a small machine: each sees what is meant for it, and at the end nothing of any of them is left."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from oj_daemon import settings
from oj_daemon.wire.client import Client
from tests.support.agents import agents, equip, runbook, scenario, turn
from tests.support.waiting import until
from tests.support.world import World

COUNT = 50
MEMORY_MB = 120
"""What the daemon may hold resident while they all run; measured: 41 MB."""
QUESTION = {
    "question": "Which name?",
    "header": "Name",
    "options": [
        {"label": "none", "description": "of them"},
        {"label": "any", "description": "one"},
    ],
    "multiSelect": False,
}


@pytest.fixture
def shop(world: World) -> World:
    equip(world)
    # Agents that have to wait for the processor leave an answered dialog on the screen for longer than that.
    world.environ["OJ_SIDECAR_SETTLE_MS"] = "2000"
    return world


def resident(pid: int) -> int:
    """Megabytes of memory that the process holds."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


@pytest.mark.timeout(400)
def test_fifty_agents_at_once_each_answer_their_own_question_and_leave_nothing(shop: World) -> None:
    names = [f"a{number}" for number in range(COUNT)]
    quoted = ", ".join(f'"{name}"' for name in names)
    steps = f'step "init" {{\n run = "true"\n on_done = [{quoted}]\n}}\n'
    steps += "".join(f'step "{name}" {{ run = {{ agent = "coder" }} }}\n' for name in names)
    runbook(shop, steps=steps)
    path = shop.project / ".oj/runbooks/main.hcl"
    path.write_text(path.read_text().replace("Please do it.", "${step}"))
    scenario(
        shop,
        turn(
            {"ask": [QUESTION]},
            {"run": "echo '{session}' $OJ_AGENT_ID '{answer}'", "to": "{prompt}.txt"},
            {"say": "I am {prompt}"},
        ),
    )
    job_id = shop.start("build")
    with Client(settings.load(shop.environ)) as client:
        answered: dict[str, str] = {}

        def all_answered() -> bool:
            """Answer each question with the name of the step that it came from."""
            for each in client.call("DecisionList")["decisions"]:
                if each["id"] not in answered:
                    answered[each["id"]] = each["step"]
                    client.call("DecisionResolve", id=each["id"], message=f"you-are-{each['step']}")
            return len(answered) == COUNT

        until(
            all_answered,
            200,
            lambda: f"all asked, but only {len(answered)}:\n{shop.log(job_id)[-3000:]}",
            pause=0.2,
        )
        memory = resident(shop.daemon_pid)
    shown = shop.finish(job_id, 120)
    assert shown["status"] == "completed", shop.log(job_id)[-3000:]
    assert sorted(answered.values()) == sorted(names)

    listed: list[dict[str, Any]] = shop.oj("agent", "list", "--no-limit", "-o", "json").json
    assert len(listed) == COUNT
    sessions = {each["id"]: each["session_id"] for each in listed}
    assert len(set(sessions.values())) == COUNT
    for name in names:
        session, agent_id, answer = (shop.project / f"{name}.txt").read_text().split(maxsplit=2)
        assert sessions[agent_id] == session, name
        assert f"you-are-{name}" in answer, "it heard the answer to its own question"
        assert answer.count("you-are-") == 1

    log = shop.log(job_id)
    for name in names:
        story = re.findall(rf"\[{name}\] (agent (?:is \w+|started|ended)|decision needed)", log)
        assert story.count("agent is prompt") == 1, (name, story)
        assert story.count("agent is idle") == 1, (name, story)
        assert "agent is working" in story, (name, story)
        assert story[-1] == "agent ended", (name, story)
    assert memory < MEMORY_MB, f"the daemon holds {memory} MB"

    assert shop.survivors() == []
    assert [path for path in (shop.state / "runs").iterdir() if path.is_dir()] == []
    assert list((shop.state / "agents").rglob("sock")) == []
    shop.oj("agent", "prune", "--all")
    assert agents(shop, job_id) == []
    assert list((shop.state / "agents").iterdir()) == []


@pytest.mark.timeout(300)
def test_a_stop_with_kill_ends_agents_that_are_up_on_their_way_up_and_waiting_for_it(
    shop: World,
) -> None:
    names = [f"a{number}" for number in range(COUNT // 2)]
    quoted = ", ".join(f'"{name}"' for name in names)
    steps = f'step "init" {{\n run = "true"\n on_done = [{quoted}]\n}}\n'
    steps += "".join(f'step "{name}" {{ run = {{ agent = "coder" }} }}\n' for name in names)
    runbook(shop, steps=steps)
    scenario(shop, turn({"await": str(shop.folder / "never")}), ignore=["HUP", "TERM"])
    job_id = shop.start("build")

    def some_work() -> bool:
        listed: list[dict[str, Any]] = shop.oj("agent", "list", "--no-limit", "-o", "json").json
        return len([each for each in listed if each["status"] == "running"]) >= 4

    until(some_work, 120, lambda: shop.log(job_id)[-2000:], pause=0.2)
    shop.oj("daemon", "stop", "--kill", timeout=120)
    assert shop.survivors() == []
    shop.oj("daemon", "start")
    assert shop.status(job_id) == "suspended"
    listed = shop.oj("agent", "list", "--no-limit", "-o", "json").json
    assert {each["status"] for each in listed} <= {"gone", "completed"}, listed
    assert shop.survivors() == []
