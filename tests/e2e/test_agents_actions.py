"""What the definition of an agent says is to happen, and what a person then decides: each way once, as a user sees it."""

from __future__ import annotations

import json
import re
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.support.agents import DONE_WHEN_WRITTEN, agents, decision, equip, runbook, scenario, turn
from tests.support.waiting import until
from tests.support.world import World

QUESTION: dict[str, Any] = {
    "question": "Which colour?",
    "header": "Colour",
    "options": [
        {"label": "red", "description": "warm"},
        {"label": "blue", "description": "cold"},
    ],
    "multiSelect": False,
}


@pytest.fixture
def shop(world: World) -> World:
    return equip(world)


def test_a_passing_failure_is_resumed_and_the_job_completes(shop: World) -> None:
    """A121."""
    runbook(shop, 'on_error = { action = "resume", attempts = 3 }')
    scenario(
        shop,
        turn({"error": "server_error", "message": "overloaded"}, times=2),
        turn({"say": "now it works"}, resumed=True),
    )
    job_id = shop.start("build")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    listed = agents(shop, job_id)
    assert len(listed) == 3
    assert len({each["session_id"] for each in listed}) == 1


def test_one_that_blocks_and_one_that_fails_leave_the_others_alone(shop: World) -> None:
    """A122."""
    names = ("a", "b", "c", "d")
    steps = "".join(f'step "{name}" {{ run = {{ agent = "coder" }} }}\n' for name in names)
    runbook(shop, 'on_dead = { action = "fail" }', steps=steps)
    path = shop.project / ".oj/runbooks/main.hcl"
    jobs = "".join(
        f'command "{name}" {{ run = {{ job = "{name}" }} }}\n'
        f'job "{name}" {{ step "s-{name}" {{ run = {{ agent = "coder" }} }} }}\n'
        for name in names
    )
    text = path.read_text().replace("Please do it.", "${step}")
    path.write_text(text[: text.index('job "build"')] + jobs)
    path.write_text(re.sub(r'command "build".*\n', "", path.read_text()))
    scenario(
        shop,
        turn({"await": str(shop.folder / "never")}, when="s-a"),
        turn({"exit": 3}, when="s-b"),
        otherwise=[{"say": "fine"}],
    )
    started = {name: shop.start(name) for name in names}
    assert shop.finish(started["b"])["status"] == "failed"
    for name in ("c", "d"):
        assert shop.finish(started[name])["status"] == "completed"
    assert shop.status(started["a"]) == "running"
    shop.oj("cancel", started["a"])
    assert shop.finish(started["a"])["status"] == "cancelled"


@pytest.mark.parametrize(
    ("action", "mode"), [("done", "allow"), ("escalate", "gate"), ("nudge", "gate")]
)
def test_the_stop_gate_is_set_by_what_idleness_means(shop: World, action: str, mode: str) -> None:
    """A123."""
    runbook(shop, f'on_idle = {{ action = "{action}" }}')
    scenario(shop, turn({"touch": str(shop.folder / "at")}, {"await": str(shop.folder / "never")}))
    job_id = shop.start("build")
    until((shop.folder / "at").exists, 60, "it works")
    (config,) = (shop.state / "agents" / job_id).glob("*/config.json")
    assert json.loads(config.read_text())["stop"]["mode"] == mode
    shop.oj("cancel", job_id)
    shop.finish(job_id)


def test_two_agent_steps_with_gates_both_pass(shop: World) -> None:
    """A124."""
    steps = 'step "a" {\n run = { agent = "coder" }\n on_done = ["b"]\n}\nstep "b" { run = { agent = "coder" } }\n'
    runbook(shop, 'on_idle = { action = "gate", run = "test -f made" }', steps=steps)
    scenario(shop, turn({"write": "made", "text": "x"}), otherwise=[{"say": "it is there"}])
    job_id = shop.start("build")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert shop.log(job_id).count("gate ended (exit 0)") == 2


@pytest.mark.parametrize(
    "actions",
    [
        [{"exit": 0}],
        [{"log_raw": '{"type":"assistant","message":{"content":[{"type":"te'}, {"signal": "KILL"}],
        [{"say": "a"}, {"bash": "true"}, {"say": "b"}, {"bash": "true"}, {"exit": 0}],
    ],
    ids=["quick", "mid-write", "rapid"],
)
def test_however_hastily_it_ends_its_end_is_acted_on(
    shop: World, actions: list[dict[str, Any]]
) -> None:
    """A125."""
    runbook(shop, 'on_dead = { action = "done" }')
    scenario(shop, turn(*actions))
    job_id = shop.start("build")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert shop.survivors() == []


def test_three_deaths_in_a_row_use_the_attempts_up_and_a_human_is_asked(shop: World) -> None:
    """A125, A126, A133: told only a message, the agent goes on with it."""
    runbook(shop, 'on_dead = { action = "resume", attempts = 2 }' + DONE_WHEN_WRITTEN)
    scenario(shop, turn({"exit": 1}, times=3), turn({"say": "at last"}, when="GO-ON"))
    job_id = shop.start("build")
    asked = decision(shop)
    assert asked["source"] == "dead"
    assert len(agents(shop, job_id)) == 3
    shop.oj("decision", "resolve", asked["id"], "-m", "GO-ON")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert len({each["session_id"] for each in agents(shop, job_id)}) == 1
    assert shop.oj("agent", "logs", job_id).code == 0
    assert "turn complete" in shop.oj("agent", "logs", job_id, "--step", "code").out


def test_an_agent_with_everything_that_can_be_said_about_it_works(shop: World) -> None:
    """A128."""
    runbook(
        shop,
        """
        env = { COLOUR = "blue" }
        prime = ["echo primed-by-oj"]
        max_concurrency = 2
        notify {
          on_start = "starts"
          on_done = "is done"
          on_fail = "failed"
        }
        on_idle = { action = "gate", run = "test -f made" }
        on_dead = { action = "resume", attempts = 1 }
        on_prompt = { action = "escalate" }
        on_error = [{ match = "rate_limited", action = "resume", message = "again" }, { action = "fail" }]
        """,
    )
    scenario(shop, turn({"bash": "echo $COLOUR > made"}, {"say": "x"}))
    job_id = shop.start("build")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert (shop.project / "made").read_text() == "blue\n"


def test_an_idle_agent_is_handed_to_a_human_who_says_that_it_is_done(shop: World) -> None:
    """A134."""
    runbook(shop, 'on_idle = { action = "escalate" }')
    scenario(shop, otherwise=[{"say": "I think I am done"}])
    job_id = shop.start("build")
    asked = decision(shop)
    assert asked["source"] == "idle"
    number = [each["label"] for each in asked["options"]].index("Done") + 1
    shop.oj("decision", "resolve", asked["id"], str(number))
    assert shop.finish(job_id)["status"] == "completed"


def test_a_plan_and_a_question_can_be_answered_by_cancelling_the_job(shop: World) -> None:
    """A135, A136, A138."""
    runbook(shop)
    for action in ({"plan": "1. do it"}, {"ask": [QUESTION]}):
        scenario(shop, turn(action))
        job_id = shop.start("build")
        asked = decision(shop)
        labels = [each["label"] for each in asked["options"]]
        assert len(labels) == 5
        shop.oj("decision", "resolve", asked["id"], str(labels.index("Cancel") + 1))
        assert shop.finish(job_id)["status"] == "cancelled"
    assert shop.survivors() == []


def test_an_open_question_is_seen_in_the_status_and_answered_in_free_words(shop: World) -> None:
    """A137, A139, A140, A141."""
    runbook(shop)
    scenario(shop, turn({"ask": [QUESTION]}, {"write": "answer", "text": "{answer}"}))
    job_id = shop.start("build")
    asked = decision(shop)
    assert "question" in shop.oj("status").out
    shop.oj("decision", "resolve", asked["id"], "-m", "a warm green")
    assert shop.oj("decision", "list", "-o", "json").json == []
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert "a warm green" in (shop.project / "answer").read_text()


def test_nudges_keep_their_distance_and_end_with_a_decision(shop: World) -> None:
    """A149."""
    runbook(
        shop,
        'on_idle = { action = "nudge", attempts = 3, cooldown = "1s", message = "GO-ON" }',
    )
    keys = shop.folder / "keys"
    scenario(shop, otherwise=[{"say": "hm"}], keys=str(keys))
    job_id = shop.start("build")
    asked = decision(shop)
    assert asked["source"] == "idle"
    log = shop.log(job_id)
    told = re.findall(r"^(\S+) \[code\] tells the agent: GO-ON", log, re.MULTILINE)
    assert len(told) == 3, log
    assert keys.read_bytes().count(b"GO-ON") == 3
    times = [datetime.fromisoformat(each).timestamp() for each in told]
    assert all(after - before >= 1 for before, after in pairwise(times)), log
    shop.oj("cancel", job_id)
    shop.finish(job_id)


def test_an_agent_that_stands_alone_and_idles_asks_a_human(shop: World) -> None:
    """A150."""
    (shop.project / ".oj/runbooks/main.hcl").write_text(
        'command "talk" { run = { agent = "coder" } }\n'
        'agent "coder" {\n run = "claude"\n prompt = "Please do it."\n}\n'
    )
    scenario(shop, otherwise=[{"say": "hi"}])
    started = shop.oj("run", "--detach", "-o", "json", "talk").json
    asked = decision(shop)
    assert asked["source"] == "idle"
    number = [each["label"] for each in asked["options"]].index("Done") + 1
    shop.oj("decision", "resolve", asked["id"], str(number))
    until(lambda: shop.survivors() == [], 60, f"{started} has ended", pause=0.2)


def test_two_agents_in_one_folder_each_go_on_with_their_own_conversation(shop: World) -> None:
    """Sidecar 85."""
    steps = """
    step "init" {
      run     = "true"
      on_done = [{ step = "one" }, { step = "two" }]
    }
    step "one" { run = { agent = "coder" } }
    step "two" { run = { agent = "coder" } }
    """
    runbook(shop, 'on_dead = { action = "resume" }', steps)
    scenario(
        shop,
        turn({"await": str(shop.folder / "both")}, {"exit": 3}, when="do it", times=1),
        turn({"run": "echo $OJ_STEP_NAME {session} >>who", "to": "x"}, resumed=True),
    )
    job_id = shop.start("build")
    until(lambda: len(agents(shop, job_id)) == 2, 60, "both are there", pause=0.2)
    (shop.folder / "both").touch()
    assert shop.finish(job_id, 100)["status"] == "completed", shop.log(job_id)
    begun: dict[str, set[str]] = {}
    for session in agents(shop, job_id):
        begun.setdefault(session["step"], set()).add(session["session_id"])
    assert all(len(ids) == 1 for ids in begun.values()), begun
    assert begun["one"] != begun["two"]
    resumed = dict(line.split() for line in (shop.project / "who").read_text().splitlines())
    assert {step: {id_} for step, id_ in resumed.items()} == begun


def test_any_program_is_judged_by_the_patterns_that_the_runbook_gives_for_its_screen(
    shop: World,
) -> None:
    (shop.project / "robot.sh").write_text(
        "printf 'Delete all of it? [y/n] '; read -r said\n"
        'echo "$said" >said; printf "\\nall set> "; read -r more\n'
    )
    (shop.project / ".oj/runbooks/main.hcl").write_text("""
    command "build" { run = { job = "build" } }
    agent "robot" {
      run     = "bash robot.sh"
      driver  = "generic"
      on_idle = { action = "gate", run = "test -s said" }
      screen {
        prompt = ["\\\\[y/n\\\\] ?$"]
        idle   = ["^all set>"]
        quiet  = "0s"
        accept = "yes please\\r"
      }
    }
    job "build" {
      step "code" { run = { agent = "robot" } }
    }
    """)
    job_id = shop.start("build")
    asked = decision(shop)
    assert asked["source"] == "approval"
    shop.oj("decision", "resolve", asked["id"], "1")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert (shop.project / "said").read_text() == "yes please\n"
