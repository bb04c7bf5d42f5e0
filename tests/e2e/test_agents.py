"""Agents as a user meets them: the real `oj`, daemon and sidecar around the scripted stand-in for Claude Code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import agents, decision, equip, runbook, scenario, turn
from tests.support.waiting import until
from tests.support.world import World


@pytest.fixture
def shop(world: World) -> World:
    return equip(world)


def test_an_interactive_agent_that_idles_completes_its_step(shop: World) -> None:
    """A112, A150."""
    runbook(shop)
    scenario(shop, turn({"write": "made.txt", "text": "hi"}, {"say": "done"}))
    job_id = shop.start("build")
    shown = shop.finish(job_id)
    assert shown["status"] == "completed", shop.log(job_id)
    assert (shop.project / "made.txt").read_text() == "hi"
    assert [each["status"] for each in agents(shop, job_id)] == ["completed"]
    assert shop.survivors() == []


def test_an_agent_that_exits_completes_the_step_with_on_dead_done(shop: World) -> None:
    """A111, A116."""
    runbook(shop, 'on_dead = { action = "done" }')
    scenario(shop, turn({"say": "bye"}, {"exit": 0}))
    assert shop.finish(shop.start("build"))["status"] == "completed"


@pytest.mark.parametrize("dialogs", [["trust"], ["bypass"], []])
def test_start_up_dialogs_are_accepted_and_do_no_harm_where_there_are_none(
    shop: World, dialogs: list[str]
) -> None:
    """A113."""
    runbook(shop)
    text = (shop.project / ".oj/runbooks/main.hcl").read_text()
    flags = "claude --dangerously-skip-permissions" if "bypass" in dialogs else "claude"
    (shop.project / ".oj/runbooks/main.hcl").write_text(text.replace('"claude"', f'"{flags}"'))
    scenario(shop, turn({"say": "done"}), dialogs=dialogs)
    job_id = shop.start("build")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)


def test_a_gate_that_passes_advances_and_one_that_fails_is_told_to_the_agent(shop: World) -> None:
    """A114, A119 for idle: the nudge loop of a gate."""
    runbook(
        shop,
        'on_idle = { action = "gate", run = "test -f done.txt", attempts = 3, message = "done.txt is missing" }',
    )
    scenario(
        shop,
        turn({"say": "I think I am done"}, when="Please do it"),
        turn({"write": "done.txt", "text": "x"}, {"say": "now"}, when="missing"),
    )
    job_id = shop.start("build")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert shop.log(job_id).count("gate ended (exit 0)") == 1


def test_a_gate_that_keeps_failing_asks_a_human_and_retry_runs_it_again(shop: World) -> None:
    """A115."""
    runbook(shop, 'on_idle = { action = "gate", run = "test -f done.txt" }')
    scenario(shop, turn({"say": "done?"}))
    job_id = shop.start("build")
    asked = decision(shop)
    assert asked["source"] == "gate"
    assert shop.status(job_id) == "waiting"
    (shop.project / "done.txt").write_text("x")
    shop.oj("decision", "resolve", asked["id"], "1")
    assert shop.finish(job_id)["status"] == "completed"


def test_a_dying_agent_asks_a_human_and_skip_retry_and_cancel_do_what_they_say(shop: World) -> None:
    """A117, A129-A132."""
    runbook(shop, 'on_dead = { action = "escalate" }')
    scenario(shop, turn({"exit": 3}))
    for choice, status in (("2", "completed"), ("3", "cancelled")):
        job_id = shop.start("build")
        asked = decision(shop)
        assert asked["source"] == "dead"
        assert "exit code 3" in asked["context"]
        shop.oj("decision", "resolve", asked["id"], choice)
        assert shop.finish(job_id)["status"] == status
    scenario(shop, turn({"exit": 3}, times=1), turn({"say": "well"}, resumed=True))
    job_id = shop.start("build")
    shop.oj("decision", "resolve", decision(shop)["id"], "1")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    first, second = reversed(agents(shop, job_id))
    assert first["session_id"] == second["session_id"]


def test_on_dead_gate_decides_by_what_the_agent_left(shop: World) -> None:
    """A118, A119."""
    runbook(shop, 'on_dead = { action = "gate", run = "test -f made.txt" }')
    scenario(shop, turn({"write": "made.txt", "text": "x"}, {"exit": 1}))
    assert shop.finish(shop.start("build"))["status"] == "completed"
    (shop.project / "made.txt").unlink()
    scenario(shop, turn({"exit": 1}))
    shop.start("build")
    assert decision(shop)["source"] == "gate"


def test_api_errors_arrive_as_their_kinds(shop: World) -> None:
    """A120; sidecar behaviour 84."""
    runbook(
        shop,
        'on_error = [{ match = "out_of_credits", action = "fail" }, { action = "escalate" }]',
    )
    scenario(shop, turn({"error": "billing_error", "message": "Credit balance is too low"}))
    job_id = shop.start("build")
    shown = shop.finish(job_id)
    assert shown["status"] == "failed", shop.log(job_id)
    assert "out_of_credits" in shown["error"]
    scenario(shop, turn({"error": "rate_limit", "message": "429"}))
    shop.start("build")
    assert decision(shop)["source"] == "error"


def test_cancel_ends_the_agent_and_does_not_revive_it(shop: World) -> None:
    """A056, A059."""
    runbook(shop, 'on_dead = { action = "resume", attempts = "forever" }')
    scenario(
        shop,
        turn(
            {"ignore": ["HUP", "TERM"]},
            {
                "child": {
                    "pid": str(shop.folder / "child"),
                    "ignore": ["HUP", "TERM"],
                    "session": True,
                    "seconds": 300,
                }
            },
            {"await": str(shop.folder / "never")},
        ),
    )
    job_id = shop.start("build")
    shop.until_file(shop.folder / "child")
    shop.oj("cancel", job_id)
    assert shop.finish(job_id)["status"] == "cancelled"
    assert len(agents(shop, job_id)) == 1
    assert shop.survivors() == []
    pid = int((shop.folder / "child").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_a_permission_a_question_and_a_plan_are_decided_by_a_human(shop: World) -> None:
    """A135-A141."""
    runbook(shop)
    question = {
        "question": "Which colour?",
        "header": "Colour",
        "options": [
            {"label": "red", "description": "warm"},
            {"label": "blue", "description": "cold"},
        ],
        "multiSelect": False,
    }
    scenario(
        shop,
        turn(
            {"bash": "echo allowed > allowed.txt", "ask": True},
            {"ask": [question]},
            {"write": "answer.txt", "text": "{answer}"},
            {"plan": "1. do it\n2. test it"},
            {"say": "all done"},
        ),
    )
    job_id = shop.start("build")
    asked = decision(shop)
    assert asked["source"] == "approval", asked
    assert "allowed.txt" in asked["context"]
    shop.oj("decision", "resolve", asked["id"], "1")

    asked = decision(shop)
    assert asked["source"] == "question"
    assert [each["label"] for each in asked["options"]] == [
        "red",
        "blue",
        "Other",
        "Cancel",
        "Dismiss",
    ]
    assert asked["options"][0]["description"] == "warm"
    shop.oj("decision", "resolve", asked["id"], "2")

    asked = decision(shop)
    assert asked["source"] == "plan"
    assert "1. do it" in asked["context"]
    shop.oj("decision", "resolve", asked["id"], "1")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert (shop.project / "allowed.txt").exists()
    assert "blue" in (shop.project / "answer.txt").read_text()


PHASES = ("spawning", "working", "idle", "prompt", "answering")


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_daemon_finds_its_agent_again_types_nothing_twice_and_keeps_the_decision(
    shop: World, phase: str
) -> None:
    """A077, A155; sidecar behaviours 81, 82."""
    keys, go = shop.folder / "keys", shop.folder / "go"
    runbook(shop, 'on_idle = { action = "nudge", attempts = 2, message = "GO-ON-NOW" }')
    actions: dict[str, list[dict[str, Any]]] = {
        "spawning": [{"say": "hi"}],
        "working": [{"touch": str(shop.folder / "at")}, {"await": str(go)}],
        "idle": [{"say": "hi"}],
        "prompt": [{"bash": "true", "ask": True}],
        "answering": [{"bash": "true", "ask": True}],
    }
    scenario(
        shop,
        turn(*actions[phase], when="Please do it"),
        # First the stop gate says it, then, at the second stop, it is typed.
        turn({"say": "again"}, when="Stop hook feedback"),
        turn({"say": "nudged"}, {"exit": 0}, when="GO-ON-NOW"),
        keys=str(keys),
    )
    text = (shop.project / ".oj/runbooks/main.hcl").read_text()
    (shop.project / ".oj/runbooks/main.hcl").write_text(
        text.replace('prompt = "Please', 'on_dead = { action = "done" }\n      prompt = "Please')
    )
    job_id = shop.start("build")
    match phase:
        case "spawning":
            until(lambda: bool(agents(shop, job_id)), 60, "the agent is ordered", pause=0.05)
        case "working":
            until((shop.folder / "at").exists, 60, "the agent works")
        case "idle":
            until(lambda: "agent is idle" in shop.log(job_id), 60, "the agent idles", pause=0.05)
        case "prompt":
            decision(shop)
        case _:
            shop.oj("decision", "resolve", decision(shop)["id"], "1")
    shop.kill_daemon()
    go.touch()
    shop.oj("daemon", "start")
    if phase == "prompt":
        shop.oj("decision", "resolve", decision(shop)["id"], "1")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert keys.read_bytes().count(b"GO-ON-NOW") == 1, "the nudge was typed once"
    assert len(agents(shop, job_id)) == 1, "there was one session all along"


def test_several_agents_at_once_do_not_disturb_each_other(shop: World) -> None:
    """A122."""
    steps = "\n".join(
        f"""
        step "a{number}" {{ run = {{ agent = "coder" }} }}
        """
        for number in range(4)
    )
    first = 'step "init" {\n run = "true"\n on_done = ["a0", "a1", "a2", "a3"]\n}\n'
    runbook(shop, steps=first + steps)
    scenario(shop, turn({"run": "echo $OJ_STEP_NAME", "to": "steps.txt"}, {"say": "{session}"}))
    job_id = shop.start("build")
    shown = shop.finish(job_id)
    assert shown["status"] == "completed", shop.log(job_id)
    assert len({each["session_id"] for each in agents(shop, job_id)}) == 4
    assert shop.survivors() == []


def test_credentials_reach_the_agent_and_the_rest_of_the_starting_shell_does_not(
    shop: World,
) -> None:
    runbook(shop)
    scenario(shop, turn({"env": "env.json"}, {"say": "x"}))
    extra = {"ANTHROPIC_API_KEY": "k-1", "LEAK_FROM_SHELL": "yes"}
    job_id = shop.start("build", environ=extra)
    assert shop.finish(job_id)["status"] == "completed"
    seen = json.loads((shop.project / "env.json").read_text())
    environ = seen.get("environment") or seen.get("env") or seen
    assert environ["ANTHROPIC_API_KEY"] == "k-1"
    assert "LEAK_FROM_SHELL" not in environ
    assert environ["OJ_JOB_ID"] == job_id
    assert "k-1" not in (shop.state / "daemon.log").read_text()
    for segment in (shop.state / "wal").iterdir():
        assert b"k-1" not in segment.read_bytes()
    assert shop.state.stat().st_mode & 0o077 == 0
