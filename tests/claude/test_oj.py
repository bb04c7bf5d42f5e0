"""The real Claude Code under the real `oj`: daemon, sidecar, hooks, decisions; only the API is ours.

Rule: what the runbook promises has to be seen on both sides, in what `oj` says and in what reached the model.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.claude.desk import SECONDS, Desk
from tests.support.waiting import until
from tests.support.world import ROOT, ran

Json = dict[str, Any]
Sit = Callable[..., Desk]

pytestmark = pytest.mark.timeout(300)

TOUCH: Json = {"tool": "Bash", "input": {"command": "touch made", "description": "make"}}
QUESTIONS: Json = {
    "questions": [
        {
            "question": "Which color?",
            "header": "Color",
            "options": [
                {"label": "Red", "description": "warm"},
                {"label": "Blue", "description": "cold"},
            ],
            "multiSelect": False,
        },
        {
            "question": "Which sizes?",
            "header": "Size",
            "options": [
                {"label": "Small", "description": "s"},
                {"label": "Large", "description": "l"},
            ],
            "multiSelect": True,
        },
    ]
}


def readme_runbook() -> str:
    """The runbook with an agent that stands in the README."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE)
    (block,) = [each for each in blocks if 'agent "coder"' in each]
    return textwrap.dedent(block)


def bash(command: str) -> Json:
    return {"tool": "Bash", "input": {"command": command, "description": "do it"}}


def test_the_runbook_of_the_readme_goes_from_prompt_to_commit(sit: Sit) -> None:
    desk = sit(
        {
            "turns": [
                {"when": "greet the world", "answers": [bash("mkdir wrong"), {"say": "I am done"}]},
                {"when": "is not done", "answers": [bash("touch greeting.txt"), {"say": "Now"}]},
            ]
        }
    )
    check = desk.world.project / "check.sh"
    check.write_text("#!/bin/bash\ntest -e greeting.txt || { echo no greeting; exit 1; }\n")
    check.chmod(0o755)
    desk.world.git("add", ".")
    desk.world.git("commit", "-qm", "a check")
    desk.world.runbook(readme_runbook())
    desk.start("do", "greet the world")
    job = desk.finish()
    assert ran(job) == ["code completed", "commit completed"]
    (branch,) = desk.world.git("branch", "--list", "do-*", "--format=%(refname:short)").split()
    assert desk.world.git("log", "-1", "--format=%s", branch).strip() == "greet the world"
    assert "greeting.txt" in desk.world.git("ls-tree", "-r", "--name-only", branch)
    assert desk.turn(0).asked.prompt == "greet the world"  # type: ignore[union-attr]
    told = [turn.asked.prompt for turn in desk.api.turns if turn.asked]
    assert "./check.sh is not done:\nno greeting" in told, told
    # What the agent was primed with.
    assert "a check" in desk.api.turns[0].text
    assert "first" in desk.api.turns[0].text
    assert desk.world.survivors() == []


def test_an_agent_that_idles_is_done_and_what_it_did_and_spent_is_known(sit: Sit) -> None:
    desk = sit(
        {
            "turns": [{"when": "GO", "answers": [{"say": "I will", **TOUCH}]}],
            "usage": {"input_tokens": 11, "output_tokens": 7},
        }
    )
    desk.runbook(run="claude --permission-mode acceptEdits")
    desk.start()
    assert ran(desk.finish()) == ["code completed", "after completed"]
    assert (desk.world.project / "made").exists()
    agent = desk.agent()
    assert agent["status"] == "completed"
    log = desk.world.oj("agent", "logs", agent["id"]).out
    assert "touch made" in log
    kept = desk.world.state / "logs" / "agent" / agent["id"]
    transcript = (kept / "session.jsonl").read_text()
    assert "All done: GO" in transcript
    assert "All done: GO" in desk.world.oj("agent", "peek", agent["id"]).out
    assert (agent["usage"]["input_tokens"], agent["usage"]["output_tokens"]) == (22, 14)


def test_trust_and_api_key_dialogs_are_passed(sit: Sit) -> None:
    desk = sit({})
    # Without this much the program asks the internet whether it is there.
    (desk.config / ".claude.json").write_text('{"hasCompletedOnboarding": true, "theme": "dark"}')
    desk.runbook()
    desk.start()
    desk.finish()
    assert desk.turn(0).asked.prompt == "GO"  # type: ignore[union-attr]
    assert desk.world.oj("decision", "list", "--all", "-o", "json").json == []


def test_a_stop_is_blocked_with_the_reason_and_then_let_go(sit: Sit) -> None:
    desk = sit({})
    desk.runbook('on_idle = { action = "nudge", attempts = 1, message = "run the tests first" }')
    desk.start()
    stopped = desk.decision("idle")
    prompts = [turn.asked.prompt for turn in desk.api.turns if turn.asked]
    assert prompts == ["GO", "Stop hook feedback:\nrun the tests first"]
    desk.resolve(stopped, "2")
    desk.finish()


def test_a_permission_is_approved_and_another_denied(sit: Sit) -> None:
    answers = [TOUCH, bash("touch other"), {"say": "refused: {result}"}]
    desk = sit({"turns": [{"when": "GO", "answers": answers}]})
    desk.runbook()
    desk.start()
    asked = desk.decision("approval")
    assert "touch made" in asked["context"]
    assert not (desk.world.project / "made").exists()
    desk.resolve(asked, "1")
    until((desk.world.project / "made").exists, SECONDS, "the command ran")
    until(lambda: len(desk.api.turns) > 1, SECONDS, "the second request")
    asked = desk.decision("approval")
    assert "touch other" in asked["context"]
    desk.resolve(asked, "2", "-m", "not here")
    desk.finish()
    assert not (desk.world.project / "other").exists()
    assert desk.turn(2).asked.result == "not here"  # type: ignore[union-attr]


@pytest.mark.parametrize("way", ["1", "2", "3"])
def test_a_plan_is_sent_back_and_then_accepted(sit: Sit, way: str) -> None:
    plan: Json = {"tool": "ExitPlanMode"}
    answers = [{"hold": "plan", **plan}, plan, TOUCH, {"say": "ok"}]
    desk = sit({"turns": [{"when": "GO", "answers": answers}]})
    desk.runbook(run="claude --permission-mode plan")
    desk.start()
    # The model is told where to write the plan; the program adds what stands there to the tool's input.
    found = re.search(r" at (/\S+/plans/\S+\.md)", desk.turn(0).text)
    assert found is not None
    path = Path(found[1])
    path.parent.mkdir(exist_ok=True)
    path.write_text("# Plan\n1. Do it")
    desk.api.release("plan")
    asked = desk.decision("plan")
    assert "1. Do it" in asked["context"]
    desk.resolve(asked, "4", "-m", "add a test")
    assert desk.turn(1).asked.result == "add a test"  # type: ignore[union-attr]
    desk.resolve(desk.decision("plan"), way)
    if way != "2":
        desk.resolve(desk.decision("approval"), "1")
    desk.finish()
    assert (desk.world.project / "made").exists()


def test_a_question_with_two_parts_is_answered(sit: Sit) -> None:
    ask = {"tool": "AskUserQuestion", "input": QUESTIONS}
    desk = sit({"turns": [{"when": "GO", "answers": [ask, {"say": "heard"}]}]})
    desk.runbook()
    desk.start()
    asked = desk.decision("question")
    assert [each["question"] for each in asked["question_groups"]] == [
        "Which color?",
        "Which sizes?",
    ]
    desk.resolve(asked, "2", "1,2")
    desk.finish()
    result = desk.turn(1).asked.result  # type: ignore[union-attr]
    assert '"Which color?"="Blue"' in result
    assert '"Which sizes?"="Small, Large"' in result


def test_a_message_is_typed_into_an_idle_session(sit: Sit) -> None:
    desk = sit({})
    desk.runbook('on_idle = { action = "escalate" }')
    desk.start()
    # The stop hook has asked once whether it needs a human.
    desk.decision("idle")
    desk.world.oj("agent", "send", desk.agent()["id"], 'and now this: it\'s a "test" of $HOME')
    until(
        lambda: any(
            turn.asked and turn.asked.prompt == 'and now this: it\'s a "test" of $HOME'
            for turn in desk.api.turns
        ),
        SECONDS,
        desk.screens,
    )
    desk.resolve(desk.decision("idle"), "2")
    desk.finish()


def test_a_killed_agent_goes_on_with_its_conversation(sit: Sit) -> None:
    hold = {"when": "GO", "answers": [TOUCH, {"hold": "never", "say": "never"}]}
    desk = sit({"turns": [hold]})
    desk.runbook(
        'on_dead = { action = "resume", message = "CARRY ON", append = true }',
        run="claude --permission-mode acceptEdits",
    )
    desk.start()
    desk.turn(1)
    desk.world.oj("agent", "kill", desk.agents()[0]["id"])
    desk.finish()
    first, second = desk.agents()
    assert first["session_id"] == second["session_id"]
    last = desk.api.turns[-1]
    assert last.asked is not None
    assert last.asked.prompt == "CARRY ON"
    assert "touch made" in last.text


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ({"status": 400}, "out_of_credits"),
        ({"status": 401}, "unauthorized"),
        ({"status": 429}, "rate_limited"),
    ],
)
def test_a_failure_of_the_api_has_its_kind(sit: Sit, failure: Json, kind: str) -> None:
    desk = sit({"turns": [{"answers": [failure]}]})
    # Ten attempts would take three minutes.
    desk.world.environ["CLAUDE_CODE_MAX_RETRIES"] = "1"
    desk.runbook(f'on_error = [{{ match = "{kind}", action = "fail" }}, {{ action = "escalate" }}]')
    desk.start()
    assert kind in desk.finish("failed")["error"]


def test_a_failure_that_nobody_foresaw_asks_a_person_and_goes_on(sit: Sit) -> None:
    answers = [[{"status": 400, "times": 1}, {"say": "fine again"}]]
    desk = sit({"turns": [{"when": "GO", "answers": answers}]})
    desk.runbook()
    desk.start()
    asked = desk.decision("error")
    assert "credit balance" in json.dumps(asked).lower()
    desk.resolve(asked, "1")
    desk.finish()


def test_a_killed_daemon_keeps_an_open_permission(sit: Sit) -> None:
    desk = sit({"turns": [{"when": "GO", "answers": [TOUCH]}]})
    desk.runbook()
    desk.start()
    asked = desk.decision("approval")
    desk.world.kill_daemon()
    desk.world.oj("daemon", "start")
    assert desk.decision("approval")["id"] == asked["id"]
    desk.resolve(asked, "1")
    desk.finish()
    assert (desk.world.project / "made").exists()
    assert len(desk.agents()) == 1


def test_an_agent_that_may_do_everything_asks_nothing(sit: Sit) -> None:
    desk = sit({"turns": [{"when": "GO", "answers": [TOUCH]}]})
    desk.runbook(run="claude --dangerously-skip-permissions")
    desk.start()
    desk.finish()
    assert (desk.world.project / "made").exists()
    assert desk.world.oj("decision", "list", "--all", "-o", "json").json == []


def test_who_is_attached_may_answer_at_the_terminal_and_the_decision_is_closed(sit: Sit) -> None:
    desk = sit({"turns": [{"when": "GO", "answers": [TOUCH]}]})
    desk.runbook()
    desk.start()
    asked = desk.decision("approval")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "oj_cli", "attach", desk.agents()[0]["id"]],
        env={**desk.world.environ, "TERM": "xterm-256color"},
        cwd=str(desk.world.project),
        dimensions=(40, 120),
        timeout=SECONDS,
    )
    child.expect_exact(b"proceed?")
    child.send(b"1")
    until((desk.world.project / "made").exists, SECONDS, "the command ran")
    child.send(b"\x1d")
    child.expect(pexpect.EOF)
    child.close()
    desk.finish()
    shown = desk.world.oj("decision", "show", asked["id"], "-o", "json").json
    assert shown["status"] == "obsolete", shown


def test_a_prompt_that_nobody_answers_takes_its_default(sit: Sit) -> None:
    answers = [TOUCH, {"say": "refused"}]
    desk = sit({"turns": [{"when": "GO", "answers": answers}]})
    desk.runbook('on_prompt = { action = "escalate", timeout = "1s", default = "deny" }')
    desk.start()
    desk.finish()
    assert not (desk.world.project / "made").exists()
    assert len(desk.api.turns) == 2


def test_an_agent_without_a_job_idles_until_it_is_told_that_it_is_done(sit: Sit) -> None:
    desk = sit({})
    desk.world.runbook(
        """
        command "talk" { run = { agent = "coder" } }
        agent "coder" {
          run    = "claude"
          prompt = "GO"
        }
        """
    )
    started = desk.world.oj("run", "--detach", "-o", "json", "talk").json
    asked = desk.decision("idle")
    desk.resolve(asked, "2")
    listed: list[Json] = []

    def is_over() -> bool:
        listed[:] = desk.world.oj("agent", "list", "-o", "json").json
        return all(each["status"] == "completed" for each in listed)

    until(is_over, SECONDS, lambda: f"{started} {listed}")
    assert desk.turn(0).asked.prompt == "GO"  # type: ignore[union-attr]


def test_a_failed_job_is_resumed_with_the_conversation_of_its_agent(sit: Sit) -> None:
    answers = [[{"status": 400, "times": 1}, {"say": "fine again"}]]
    desk = sit({"turns": [{"when": "GO", "answers": answers}]})
    desk.runbook('on_error = "fail"')
    desk.start()
    desk.finish("failed")
    desk.world.oj("resume", desk.job, "-m", "AGAIN")
    desk.finish()
    first, second = desk.agents()
    assert first["session_id"] == second["session_id"]
    last = desk.api.turns[-1]
    assert last.asked is not None
    # 2.1.330 leaves the failure out and joins what was said before and after it.
    assert last.asked.prompt in ("AGAIN", "GO\n\nAGAIN")
    assert "GO" in last.text
