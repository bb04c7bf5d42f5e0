"""Agents that flood, die, hang on and do not listen: nothing stalls, nothing raw reaches a person's terminal, all of it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.support.agents import agents, decision, equip, runbook, scenario, turn
from tests.support.waiting import until
from tests.support.world import World, alive

QUICK = 60.0
"""Seconds within which the daemon answers anything, however loud its agents are: most of it is what `oj` takes to start."""
RAW = re.compile(
    rb"[\x00-\x06\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]|\x1b(?!\[[0-9;]*[mK]|\[\?25[hl]|\[\?7[hl])"
)
"""What no text from outside may bring to a terminal: controls, and sequences that do more than colour."""


@pytest.fixture
def shop(world: World) -> World:
    return equip(world)


def on_terminal(world: World, *args: str) -> bytes:
    """What `oj` writes to a terminal."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "oj_cli", *args],
        env={**world.environ, "TERM": "xterm-256color"},
        cwd=str(world.project),
        dimensions=(30, 100),
        timeout=60,
    )
    child.expect(pexpect.EOF)
    said: Any = child.before
    child.close()
    assert child.exitstatus == 0, (args, said)
    return bytes(said)


def speedy(world: World, *args: str) -> None:
    """Run `oj`, which must answer soon."""
    begun = time.monotonic()
    world.oj(*args)
    took = time.monotonic() - begun
    assert took < QUICK, f"oj {' '.join(args)} took {took:.1f} s"


def sidecar_of(world: World, job_id: str) -> int:
    """The process id of the sidecar of a job's newest agent."""
    agent_id = agents(world, job_id)[0]["id"].encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"oj_daemon.sidecar.main" in words and any(agent_id in word for word in words):
            return int(path.name)
    raise AssertionError(f"{job_id} has no sidecar")


@pytest.mark.parametrize("kind", ["text", "binary", "escapes", "line"])
def test_a_flood_stalls_nobody_and_nothing_raw_of_it_reaches_a_terminal(
    shop: World, kind: str
) -> None:
    runbook(shop)
    flood = {"flood": {"megabytes": 10, "rate": 10, "kind": kind}}
    go = shop.folder / "go"
    scenario(
        shop,
        turn(
            {"touch": str(shop.folder / "at")},
            flood,
            {"bash": "printf '\\033]0;title\\007\\033[2Jevil\\001'"},
            {"await": str(go)},
            {"say": "through \u001b]52;c;ZXZpbA==\u0007 it"},
        ),
    )
    job_id = shop.start("build")
    until((shop.folder / "at").exists, 60, "the flood begins")
    for _ in range(2):
        speedy(shop, "status")
        speedy(shop, "peek", job_id)
    until(lambda: "bash" in shop.oj("agent", "logs", job_id).out, 60, "the flood is over")
    for args in (("peek", job_id), ("agent", "logs", job_id), ("logs", job_id)):
        said = on_terminal(shop, *args)
        found = RAW.search(said)
        assert found is None, (args, said[max(0, found.start() - 40) : found.start() + 40])
    go.touch()
    shown = shop.finish(job_id)
    assert shown["status"] == "completed", shop.log(job_id)
    for args in (("peek", job_id), ("agent", "logs", job_id), ("logs", job_id)):
        said = on_terminal(shop, *args)
        found = RAW.search(said)
        assert found is None, (args, said[max(0, found.start() - 40) : found.start() + 40])
    assert shop.survivors() == []


def test_an_endless_flood_is_cancelled_in_time(shop: World) -> None:
    runbook(shop)
    scenario(
        shop,
        turn(
            {"ignore": ["HUP", "TERM"]},
            {"touch": str(shop.folder / "at")},
            {"flood": {"megabytes": 100_000, "rate": 0, "kind": "escapes"}},
        ),
    )
    job_id = shop.start("build")
    until((shop.folder / "at").exists, 60, "the flood begins")
    speedy(shop, "status")
    shop.oj("cancel", job_id)
    assert shop.finish(job_id)["status"] == "cancelled"
    assert shop.survivors() == []


def test_queries_of_the_terminal_are_answered_and_do_not_reach_a_person(shop: World) -> None:
    runbook(shop)
    answers = shop.folder / "answers"
    scenario(
        shop,
        turn(
            {
                "query": "\u001b[c\u001b[6n\u001b]11;?\u0007\u001bP+q544e\u001b\\",
                "to": str(answers),
            },
            {"print": "\u001b]52;c;?\u0007\u001b[21t\u001b]0;evil\u0007"},
            {"await": str(shop.folder / "go")},
            {"say": "done"},
        ),
    )
    job_id = shop.start("build")
    assert "[" in shop.until_file(answers)
    said = on_terminal(shop, "peek", job_id)
    assert RAW.search(said) is None, said
    (shop.folder / "go").touch()
    assert shop.finish(job_id)["status"] == "completed"


def test_an_agent_that_closes_its_terminal_and_lives_on_can_be_cancelled(shop: World) -> None:
    runbook(shop)
    scenario(
        shop,
        turn(
            {"ignore": ["HUP", "TERM"]},
            {"touch": str(shop.folder / "at")},
            {"close": str(shop.folder / "never")},
        ),
    )
    job_id = shop.start("build")
    until((shop.folder / "at").exists, 60, "it has begun")
    speedy(shop, "status")
    speedy(shop, "peek", job_id)
    shop.oj("cancel", job_id)
    assert shop.finish(job_id)["status"] == "cancelled"
    assert shop.survivors() == []


def test_an_agent_killed_as_if_out_of_memory_is_dead_although_its_children_hold_the_terminal(
    shop: World,
) -> None:
    """Sidecar behaviour 36."""
    runbook(shop, 'on_dead = { action = "escalate" }')
    child = shop.folder / "child"
    scenario(
        shop,
        turn(
            {"child": {"pid": str(child), "terminal": True, "ignore": ["HUP", "TERM"]}},
            {"signal": "KILL"},
        ),
    )
    job_id = shop.start("build")
    asked = decision(shop)
    assert asked["source"] == "dead"
    assert "signal 9" in asked["context"], asked
    shop.oj("decision", "resolve", asked["id"], "3")
    assert shop.finish(job_id)["status"] == "cancelled"
    assert not alive(int(child.read_text()))
    assert shop.survivors() == []


def test_an_agent_that_dies_at_its_prompt_takes_the_decision_with_it(shop: World) -> None:
    runbook(shop, 'on_dead = { action = "done" }')
    pid = shop.folder / "pid"
    scenario(
        shop,
        turn({"run": f"echo $PPID > {pid}", "to": "x"}, {"bash": "true", "ask": True}),
    )
    job_id = shop.start("build")
    asked = decision(shop)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    shown = shop.finish(job_id)
    assert shown["status"] == "completed", shop.log(job_id)
    late = shop.oj("decision", "resolve", asked["id"], "1", code=None)
    assert late.code != 0
    assert "Traceback" not in late.err
    assert shop.oj("decision", "list", "-o", "json").json == []


def test_a_sidecar_that_is_killed_counts_as_a_dead_agent_and_leaves_nothing(shop: World) -> None:
    runbook(shop, 'on_dead = { action = "fail" }')
    scenario(
        shop,
        turn({"touch": str(shop.folder / "at")}, {"await": str(shop.folder / "never")}),
        ignore=["HUP", "TERM"],
    )
    job_id = shop.start("build")
    until((shop.folder / "at").exists, 60, "it works")
    os.kill(sidecar_of(shop, job_id), signal.SIGKILL)
    assert shop.finish(job_id)["status"] == "failed"
    assert shop.survivors() == []


def test_a_sidecar_that_stands_still_holds_up_nobody_else_and_is_cancelled(shop: World) -> None:
    runbook(shop)
    scenario(shop, turn({"touch": str(shop.folder / "at")}, {"await": str(shop.folder / "never")}))
    job_id = shop.start("build")
    until((shop.folder / "at").exists, 60, "it works")
    os.kill(sidecar_of(shop, job_id), signal.SIGSTOP)
    speedy(shop, "status")
    shop.job('step "a" { run = "true" }', command="other", name="other.hcl")
    assert shop.run("other")["status"] == "completed"
    shop.oj("cancel", job_id)
    assert shop.finish(job_id, 100)["status"] == "cancelled"
    assert shop.survivors() == []


def test_hooks_that_get_no_answer_do_not_hold_the_agent_for_ever(shop: World) -> None:
    """The agent's own hook hangs beside ours: the step goes on by what else is seen, and cancel ends the hook, too."""
    runbook(shop)
    (shop.project / ".claude").mkdir()
    hang = {"type": "command", "command": "trap '' TERM HUP; sleep 300; sleep 300", "timeout": 600}
    (shop.project / ".claude" / "settings.json").write_text(
        json.dumps({"hooks": {"Stop": [{"hooks": [hang]}]}})
    )
    scenario(shop, turn({"say": "hi"}, {"touch": str(shop.folder / "at")}))
    job_id = shop.start("build")
    until((shop.folder / "at").exists, 60, "it works")
    speedy(shop, "peek", job_id)
    shop.oj("cancel", job_id, code=None)
    assert shop.finish(job_id)["status"] in ("cancelled", "completed")
    assert shop.survivors() == []
