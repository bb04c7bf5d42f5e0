"""Decisions as a user meets them: seen, answered, put aside and waited for, with the real daemon and the scripted agent."""

from __future__ import annotations

import os
import sys
from typing import Any

import pexpect
import pytest

from tests.support.agents import FAST, decision, runbook, scenario, turn
from tests.support.waiting import until
from tests.support.world import ROOT, World, ran

ESCALATE = 'on_idle = "escalate"'
QUESTION = {
    "ask": [
        {
            "question": "Which database?",
            "header": "DB",
            "options": [
                {"label": "Postgres", "description": "The big one"},
                {"label": "SQLite", "description": "The small one"},
            ],
        }
    ]
}
SECOND = {
    "question": "Which parts?",
    "header": "Parts",
    "multiSelect": True,
    "options": [
        {"label": "API", "description": "calls"},
        {"label": "UI", "description": "screens"},
    ],
}
CREW = """
command "help" { run = { agent = "helper" } }
agent "helper" {
  run    = "claude"
  prompt = "Please help."
}
"""


@pytest.fixture
def shop(world: World) -> World:
    world.environ["PATH"] = f"{ROOT / 'tests/support/agent'}:{world.environ['PATH']}"
    world.environ |= FAST
    return world


def resolve(world: World, *words: str) -> None:
    """Answer the open decision; it leaves the list."""
    view = decision(world)
    world.oj("decision", "resolve", view["id"], *words)
    left = world.oj("decision", "list", "-o", "json").json
    assert view["id"] not in [each["id"] for each in left]


def test_an_idle_agent_is_shown_everywhere_and_a_nudge_sends_it_on(shop: World) -> None:
    runbook(shop, ESCALATE)
    scenario(
        shop,
        turn({"write": "more.txt", "text": "more\n"}, {"say": "Is that all?"}, when="also tests"),
        otherwise=[{"say": "Is that all?"}],
    )
    job_id = shop.start("build")
    blocked = shop.oj("job", "wait", "--until-blocked", job_id, code=6)
    view = decision(shop)
    short = view["id"][4:12]
    assert f"oj decision show {short}" in blocked.err
    assert (view["source"], view["summary"]) == ("idle", "idle, it said: Is that all?")
    assert [option["label"] for option in view["options"]] == ["Nudge", "Done", "Cancel", "Dismiss"]

    status = shop.oj("status").out
    assert "1 escalated" in status
    assert "1 decision pending" in status
    assert "[idle]" in status
    assert "→ idle, it said: Is that all?" in status
    shown = shop.oj("job", "show", job_id).out
    assert f"oj decision show {short}" in shown
    assert f"Decision:  {view['id']}" in shop.oj("show", short).out
    assert shop.oj("agent", "wait", job_id).err == f"Hint: oj decision show {short}\n"
    assert f"oj decision show {short}" in shop.oj("agent", "show", job_id).out

    shop.oj("decision", "resolve", short, code=1)
    out_of_range = shop.oj("decision", "resolve", short, "5", code=1)
    assert out_of_range.err == (
        f"Error: choice 5 out of range (1..4)\nHint: oj decision show {short}\n"
    )
    resolve(shop, "1", "-m", "also tests")
    second = decision(shop)
    assert (shop.project / "more.txt").read_text() == "more\n"
    assert second["id"] != view["id"]
    again = shop.oj("decision", "resolve", short, "1", code=1)
    assert "is already resolved" in again.err
    resolve(shop, "2")
    assert ran(shop.finish(job_id)) == ["code completed", "commit completed"]
    told = shop.oj("decision", "show", short).out
    assert "Chosen:    Nudge" in told
    assert "Message:   also tests" in told


def test_a_decision_that_is_put_aside_can_be_brought_back(shop: World) -> None:
    runbook(shop, ESCALATE)
    job_id = shop.start("build")
    view = decision(shop)
    resolve(shop, "4")
    assert shop.status(job_id) == "waiting"
    assert f"oj decision reopen {view['id'][4:12]}" in shop.oj("status").out
    shop.oj("decision", "reopen", view["id"])
    resolve(shop, "3")
    assert shop.finish(job_id)["status"] == "cancelled"
    assert shop.oj("decision", "reopen", view["id"], code=1).err.startswith("Error: decision ")


@pytest.mark.parametrize(
    ("choice", "status"), [("2", "completed"), ("3", "cancelled")], ids=["skip", "cancel"]
)
def test_a_dead_agent_is_skipped_or_its_job_cancelled(
    shop: World, choice: str, status: str
) -> None:
    runbook(shop)
    scenario(shop, turn({"exit": 3}))
    job_id = shop.start("build")
    view = decision(shop)
    assert (view["source"], view["summary"]) == ("dead", "exited unexpectedly: exit code 3.")
    assert shop.oj("agent", "wait", job_id, code=1).err.startswith("Agent coder (")
    resolve(shop, choice)
    assert shop.finish(job_id)["status"] == status


def test_a_plan_is_shown_and_accepted(shop: World) -> None:
    runbook(shop)
    scenario(shop, turn({"plan": "# The plan\n1. act"}, {"say": "planned: {answer}"}))
    job_id = shop.start("build")
    view = decision(shop)
    assert (view["source"], view["summary"], len(view["options"])) == ("plan", "# The plan", 5)
    assert "  Plan:\n  # The plan\n  1. act\n" in shop.oj("decision", "show", view["id"]).out
    resolve(shop, "1")
    assert shop.finish(job_id)["status"] == "completed"


@pytest.mark.parametrize(
    ("answer", "heard"),
    [(["2"], "SQLite"), (["-m", "none of them"], "none of them")],
    ids=["option", "text"],
)
def test_a_question_is_answered(shop: World, answer: list[str], heard: str) -> None:
    runbook(shop)
    scenario(shop, turn(QUESTION, {"run": "echo '{answer}'", "to": "answer.txt"}))
    job_id = shop.start("build")
    view = decision(shop)
    text = shop.oj("decision", "show", view["id"]).out
    assert "  1. Postgres\n     The big one\n  2. SQLite\n     The small one\n  3. Other\n" in text
    resolve(shop, *answer)
    assert shop.finish(job_id)["status"] == "completed"
    assert heard in (shop.project / "answer.txt").read_text()


def test_several_questions_need_an_answer_each(shop: World) -> None:
    runbook(shop)
    both = {"ask": [*QUESTION["ask"], SECOND]}
    scenario(shop, turn(both, {"run": "echo '{answer}'", "to": "answer.txt"}))
    job_id = shop.start("build")
    view = decision(shop)
    wrong = shop.oj("decision", "resolve", view["id"], "1", code=1)
    assert "expected 2 choices (one per question), got 1" in wrong.err
    resolve(shop, "1", "1,2")
    assert shop.finish(job_id)["status"] == "completed"
    heard = (shop.project / "answer.txt").read_text()
    assert "Postgres" in heard
    assert "API" in heard
    assert "UI" in heard


def test_when_nobody_answers_the_default_is_taken(shop: World) -> None:
    runbook(shop, 'on_idle = { action = "escalate", timeout = "1s", default = "skip" }')
    job_id = shop.start("build")
    view = decision(shop)
    assert view["default"] == "skip"
    assert shop.finish(job_id)["status"] == "completed"
    assert "By:        deadline" in shop.oj("decision", "show", view["id"]).out


def test_an_unknown_decision_is_an_error_and_a_review_needs_a_terminal(shop: World) -> None:
    shop.oj("daemon", "start")
    assert "Decision not found: nope" in shop.oj("decision", "show", "nope", code=1).err
    assert "Decision not found: nope" in shop.oj("decision", "resolve", "nope", "1", code=1).err
    assert "not a terminal" in shop.oj("decision", "review", code=1).err
    assert shop.oj("decision", "list").out == "No pending decisions\n"


# Where a job is followed


def test_in_a_pipe_oj_run_says_what_to_type(shop: World) -> None:
    runbook(shop, ESCALATE)
    shop.oj("daemon", "start")
    run = shop.spawn("run", "build")
    view = decision(shop)
    resolve(shop, "2")
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    assert "Waits for a decision (idle): idle, it said: " in out
    assert f"To answer: oj decision resolve {view['id'][4:12]} N [-m TEXT]" in out


def on_terminal(world: World, *words: str) -> pexpect.spawn[str]:
    return pexpect.spawn(
        sys.executable,
        ["-m", "oj_cli", *words],
        cwd=str(world.project),
        env={**os.environ, **world.environ, "NO_COLOR": "1", "TERM": "xterm"},
        dimensions=(40, 110),
        encoding="utf-8",
        timeout=60,
    )


def test_on_a_terminal_oj_run_takes_the_answer_in_place(shop: World) -> None:
    runbook(shop)
    scenario(shop, turn(QUESTION, {"run": "echo '{answer}'", "to": "answer.txt"}))
    run = on_terminal(shop, "run", "build")
    run.expect("2. SQLite")
    run.expect("Your answer.*: $")
    run.sendline("2")
    run.expect("Resolved decision")
    run.expect("completed build")
    run.expect(pexpect.EOF)
    run.close()
    assert run.exitstatus == 0
    assert "SQLite" in (shop.project / "answer.txt").read_text()


def test_a_review_answers_what_is_open(shop: World) -> None:
    runbook(shop, ESCALATE)
    job_id = shop.start("build")
    decision(shop)
    talk = on_terminal(shop, "decision", "review")
    talk.expect("Your answer.*: $")
    talk.sendline("2")
    talk.expect("1 resolved, 0 skipped")
    talk.expect(pexpect.EOF)
    talk.close()
    assert talk.exitstatus == 0
    assert shop.finish(job_id)["status"] == "completed"


# Agents that stand alone


def test_an_agent_that_stands_alone_is_run_listed_told_and_ended(shop: World) -> None:
    (shop.project / ".oj/runbooks/main.hcl").write_text(CREW)
    scenario(shop, otherwise=[{"say": "I am here."}])
    started = shop.oj("run", "--detach", "help").out
    short = started.partition("Agent: helper (")[2].partition(")")[0]
    view = decision(shop)
    assert view["owner_id"][4:12] == short
    assert shop.oj("job", "list").out == "No jobs\n"
    assert short in shop.oj("job", "list", "--all-kinds").out
    (listed,) = shop.oj("agent", "list", "-o", "json").json
    assert (listed["owner"], listed["status"]) == (f"crew:{view['owner_id']}", "waiting")
    assert shop.oj("show", short).out.startswith(f"Crew:      {view['owner_id']}\n")
    assert "stands alone" in shop.oj("agent", "suspend", listed["id"], code=1).err

    assert shop.oj("agent", "resume", short, "-m", "more").out.startswith("Resumed agent ")
    second = decision(shop)
    assert (second["summary"], second["id"] != view["id"]) == ("idle, it said: I am here.", True)
    assert shop.oj("decision", "show", view["id"], "-o", "json").json["status"] == "obsolete"
    resolve(shop, "2")
    assert shop.oj("agent", "wait", listed["id"]).out.endswith("completed\n")
    assert "is completed" in shop.oj("agent", "resume", listed["id"], code=1).err


def test_a_killed_agent_is_resumed_with_its_conversation(shop: World) -> None:
    runbook(shop, ESCALATE)
    job_id = shop.start("build")
    decision(shop)
    (first,) = shop.oj("agent", "list", "-o", "json").json
    shop.oj("agent", "kill", first["id"])
    dead = decision_of(shop, "dead")
    assert dead["agent_id"] == first["id"]
    assert shop.oj("agent", "resume", "--all", "-o", "json").json["resumed"] == [first["id"]]
    again = decision_of(shop, "idle")
    newest, oldest = shop.oj("agent", "list", "-o", "json").json
    assert (oldest["status"], newest["id"]) == ("gone", again["agent_id"])
    assert newest["session_id"] == first["session_id"]
    shop.oj("agent", "suspend", newest["id"])
    shop.until_status(job_id, "suspended")


def test_agents_of_ended_jobs_are_pruned_and_the_jobs_stay(shop: World) -> None:
    runbook(shop)
    job_id = shop.start("build")
    shop.finish(job_id)
    assert "Pruned 0 agents, 1 skipped" in shop.oj("agent", "prune").out
    assert "Would prune 1 agent" in shop.oj("agent", "prune", "--all", "--dry-run").out
    assert "Pruned 1 agent" in shop.oj("agent", "prune", "--all").out
    assert shop.oj("agent", "list").out == "No agents found\n"
    assert shop.status(job_id) == "completed"


def decision_of(world: World, source: str) -> dict[str, Any]:
    """The open decision, once it is of that source."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        every = world.oj("decision", "list", "-o", "json").json
        found[:] = [each for each in every if each["source"] == source]
        return bool(found)

    until(is_there, 60, f"a decision about {source} is open", pause=0.2)
    return found[0]
