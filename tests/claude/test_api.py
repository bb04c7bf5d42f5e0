"""The real Claude Code takes the loopback API for the real one, and behaves as design and recordings say.

Rule: these tests know neither daemon nor sidecar. When a new release of the program breaks one, the facts have changed:
record again, then change the driver.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent.session import Session, decision
from tests.support.anthropic.server import ApiServer
from tests.support.waiting import until

Json = dict[str, Any]
Play = Callable[..., tuple[Session, ApiServer]]

pytestmark = pytest.mark.timeout(240)

QUESTIONS = [
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
ANSWERS = {"Which color?": "Blue", "Which sizes?": "Small, Large"}


def accept(session: Session, label: str) -> None:
    """Choose an option of a start dialog: releases differ in order, numbers and default, so look before a key.

    A dialog may be drawn anew while the program starts, with the marker where it was: look when it has settled, and again.
    """
    mark, wanted = "\u276f", label.replace(" ", "")
    session.sees(label)
    for key in ("\x1b[B", "\x1b[A", "\x1b[B", "\x1b[A", ""):
        session.settle()
        chosen = re.sub(r"\d\.", "", session.seen).rpartition(mark)[2]
        if chosen.startswith(wanted):
            break
        session.type(key)
    else:
        raise AssertionError(f"no {label!r} to choose on\n{session.seen[-1000:]}")
    session.output = b""
    session.type("\r")


def said(text: str) -> Callable[[Json], bool]:
    """Fits an entry of the log with this text."""
    return lambda entry: text in str(entry.get("message", {}).get("content"))


def bash(command: str) -> Json:
    return {"tool": "Bash", "input": {"command": command, "description": "do it"}}


def test_prompt_to_commit_with_the_prime_text_in_the_request(play: Play) -> None:
    command = "echo hi > a.txt && git add a.txt && git commit -q -m done"
    turn = {"when": "BUILD", "answers": [{"think": "hm", "say": "I will", **bash(command)}]}
    session, api = play({"turns": [turn]}, start=False)
    session.answer("SessionStart", 1, "PRIMED CONTEXT\n")
    session.answer("PermissionRequest", 1, decision("allow"))
    session.start("--permission-mode", "default", "BUILD it")
    stop = session.hook("Stop")
    assert stop["last_assistant_message"] == "All done: BUILD it"
    assert stop["stop_hook_active"] is False
    assert session.git("log", "-1", "--format=%s") == "done"
    assert [(turn.asked.prompt, turn.asked.step) for turn in api.turns if turn.asked] == [
        ("BUILD it", 0),
        ("BUILD it", 1),
    ]
    assert "PRIMED CONTEXT" in api.turns[0].text
    assert session.story() == [
        "SessionStart",
        "UserPromptSubmit",
        "PreToolUse",
        "PermissionRequest",
        "PostToolUse",
        "Stop",
    ]


def test_bypass_needs_no_permission_and_usage_is_in_the_log(play: Play) -> None:
    turn = {"answers": [{"say": "I will", **bash("touch made")}]}
    usage = {"input_tokens": 11, "output_tokens": 7}
    session, _ = play({"turns": [turn], "usage": usage}, start=False)
    session.start("--dangerously-skip-permissions", "go")
    accept(session, "Yes, I accept")
    session.hook("Stop")
    session.logged(said("All done: go"))
    assert "PermissionRequest" not in session.story()
    assert (session.project / "made").exists()
    spent: dict[str, Json] = {}
    for entry in session.transcript():
        if entry["type"] == "assistant":
            spent[entry["message"]["id"]] = entry["message"]["usage"]
    assert [(one["input_tokens"], one["output_tokens"]) for one in spent.values()] == [(11, 7)] * 2


def test_a_person_may_answer_a_permission_while_the_hook_waits(play: Play) -> None:
    session, api = play({"turns": [{"answers": [bash("touch made")]}]}, start=False)
    session.hold("PermissionRequest")
    session.start("--permission-mode", "default", "go")
    session.hook("PermissionRequest")
    session.sees("Do you want to proceed?")
    session.type("1")
    session.hook("Stop")
    session.answer("PermissionRequest", 1, decision("deny", message="too late"))
    assert (session.project / "made").exists()
    assert "too late" not in api.turns[-1].text


def test_a_permission_refused_by_the_hook_is_told_to_the_model(play: Play) -> None:
    turn = {"answers": [bash("touch made"), {"say": "refused: {result}"}]}
    session, _ = play({"turns": [turn]}, start=False)
    session.answer("PermissionRequest", 1, decision("deny", message="not here"))
    session.start("--permission-mode", "default", "go")
    assert session.hook("Stop")["last_assistant_message"] == "refused: not here"
    assert not (session.project / "made").exists()
    assert "PostToolUse" not in session.story()


def test_a_permission_refused_by_key_ends_the_turn_without_any_hook(play: Play) -> None:
    session, api = play({"turns": [{"answers": [bash("touch made")]}]}, "go")
    session.hook("PermissionRequest")
    session.sees("Do you want to proceed?")
    # Not a digit: the third option is "No" in one release and "switch to auto mode" in another.
    session.type("\x1b")
    session.logged(said("[Request interrupted by user for tool use]"))
    assert session.story()[-1] in ("PermissionRequest", "Notification")
    assert len(api.turns) == 1


def test_questions_are_answered_by_the_hook(play: Play) -> None:
    ask = {"tool": "AskUserQuestion", "input": {"questions": QUESTIONS}}
    session, api = play({"turns": [{"answers": [ask, {"say": "heard"}]}]}, start=False)
    given = {"questions": QUESTIONS, "answers": ANSWERS}
    session.answer("PermissionRequest", 1, decision("allow", updatedInput=given))
    session.start("--permission-mode", "default", "ask me")
    session.hook("Stop")
    assert session.hooks("PostToolUse")[0]["tool_response"]["answers"] == ANSWERS
    result = api.turns[-1].asked.result if api.turns[-1].asked else ""
    assert '"Which color?"="Blue"' in result
    assert '"Which sizes?"="Small, Large"' in result


def test_a_plan_is_sent_back_and_then_accepted(play: Play) -> None:
    plan = {"tool": "ExitPlanMode", "input": {"plan": "# Plan\n1. Do it"}}
    session, api = play({"turns": [{"answers": [plan, plan, {"say": "go"}]}]}, start=False)
    session.answer("PermissionRequest", 1, decision("deny", message="add a test"))
    # Since 2.1.330 a bare "allow" is ignored for a plan.
    accepted = decision("allow", updatedInput=plan["input"])
    session.answer("PermissionRequest", 2, accepted)
    session.start("--permission-mode", "plan", "plan it")
    session.hook("Stop")
    assert api.turns[1].asked is not None
    assert api.turns[1].asked.result == "add a test"
    assert [p["permission_mode"] for p in session.hooks("PermissionRequest")] == ["plan", "plan"]
    assert session.hooks("Stop")[0]["permission_mode"] != "plan"


def test_a_blocked_stop_goes_on_with_the_reason(play: Play) -> None:
    session, api = play({}, start=False)
    session.answer("Stop", 1, {"decision": "block", "reason": "run the tests first"})
    session.start("--permission-mode", "default", "go")
    assert session.hook("Stop", 2)["stop_hook_active"] is True
    assert api.turns[1].asked is not None
    assert api.turns[1].asked.prompt == "Stop hook feedback:\nrun the tests first"


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ({"status": 400}, "billing_error"),
        ({"status": 400, "message": "prompt is too long: 1 tokens > 0 maximum"}, "invalid_request"),
    ],
)
def test_a_failure_that_is_final_ends_the_turn_at_once(
    play: Play, failure: Json, kind: str
) -> None:
    session, api = play({"turns": [{"answers": [failure]}]}, "go")
    assert session.hook("StopFailure")["error"] == kind
    assert "Stop" not in session.story()
    entry = session.logged(lambda entry: entry.get("isApiErrorMessage"))
    assert (entry["error"], entry["apiErrorStatus"]) == (kind, 400)
    assert len(api.turns) >= 1


@pytest.mark.parametrize("status", [429, 500, 529])
def test_a_passing_failure_is_retried_and_shown(play: Play, status: int) -> None:
    failure = {"status": status, "times": 3}
    session, api = play({"turns": [{"answers": [[failure, {"say": "at last"}]]}]}, "go")
    assert session.hook("Stop", seconds=120)["last_assistant_message"] == "at last"
    assert [turn.status for turn in api.turns] == [status] * 3 + [200]
    assert "StopFailure" not in session.story()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "authentication_failed"),
        (403, "authentication_failed"),
        (404, "model_not_found"),
        (413, "invalid_request"),
        (429, "rate_limit"),
        (500, "server_error"),
        (529, "server_error"),
    ],
)
def test_a_failure_that_stays_has_its_kind(play: Play, status: int, kind: str) -> None:
    session, _ = play({"turns": [{"answers": [{"status": status}]}]}, start=False)
    # Ten attempts would take three minutes.
    session.environment["CLAUDE_CODE_MAX_RETRIES"] = "1"
    session.start("--permission-mode", "default", "go")
    assert session.hook("StopFailure")["error"] == kind
    assert "Stop" not in session.story()
    assert session.logged(lambda entry: entry.get("isApiErrorMessage"))["error"] == kind


@pytest.mark.parametrize("trouble", ["cut", "error_after"])
def test_a_broken_stream_is_asked_for_again_without_streaming(play: Play, trouble: str) -> None:
    answer = {"say": "a long text that never comes to its end " * 4, trouble: 4}
    session, api = play({"turns": [{"answers": [answer]}]}, start=False)
    # 2.1.330 first spends all its attempts on streams.
    session.environment["CLAUDE_CODE_MAX_RETRIES"] = "1"
    session.start("--permission-mode", "default", "go")
    assert "never comes" in session.hook("Stop", seconds=120)["last_assistant_message"]
    assert not api.turns[-1].body.get("stream")


def test_a_slow_stream_is_waited_for(play: Play) -> None:
    session, _ = play({"turns": [{"answers": [{"say": "slowly " * 20, "pause": 0.05}]}]}, "go")
    assert session.hook("Stop")["last_assistant_message"].startswith("slowly")


def test_escape_interrupts_an_endless_answer_without_a_hook(play: Play) -> None:
    session, _ = play(
        {"turns": [{"when": "GO", "answers": [{"say": "on ", "endless": True}]}]}, "GO"
    )
    session.sees("ononon")
    session.type("\x1b")
    session.logged(said("[Request interrupted by user]"))
    assert session.story() == ["SessionStart", "UserPromptSubmit"]
    session.say("next")
    assert session.hook("Stop")["last_assistant_message"] == "All done: next"


def test_words_typed_meanwhile_come_after_the_turn(play: Play) -> None:
    session, api = play(
        {"turns": [{"when": "HOLD", "answers": [{"hold": "x", "say": "held"}]}]}, "HOLD"
    )
    until(lambda: api.turns, 60, "the request")
    session.say("and more")
    session.sees("and more")
    until(lambda: any(e["type"] == "queue-operation" for e in session.transcript()), 60, "queued")
    # Up to 2.1.197 UserPromptSubmit comes when the turn is over, in 2.1.330 as soon as Enter was pressed.
    assert "Stop" not in session.story()
    api.release("x")
    session.hook("Stop", 2)
    assert session.hooks("UserPromptSubmit")[1]["prompt"] == "and more"


def test_a_nudge_and_pasted_lines_are_prompts(play: Play) -> None:
    session, _ = play({}, "first")
    session.hook("Stop")
    session.say("go on")
    session.hook("Stop", 2)
    session.type("\x1b[200~one\ntwo\x1b[201~")
    session.sees("two")
    session.type("\r")
    assert session.hook("UserPromptSubmit", 3)["prompt"] == "one\ntwo"


def test_it_resumes_its_session_after_a_kill(play: Play) -> None:
    session, api = play({}, "first")
    session.hook("Stop")
    # A kill before that would take the last answer out of the conversation.
    session.logged(said("All done: first"))
    session.kill()
    session.start("--permission-mode", "default", "second", resume=True)
    session.hook("Stop", 2)
    assert [p["source"] for p in session.hooks("SessionStart")] == ["startup", "resume"]
    assert len({p["session_id"] for p in session.hooks()}) == 1
    assert len({p["transcript_path"] for p in session.hooks()}) == 1
    assert api.turns[-1].asked is not None
    assert (api.turns[-1].asked.prompt, api.turns[-1].asked.number) == ("second", 2)
    assert "All done: first" in api.turns[-1].text


def test_clear_begins_another_session_and_compact_does_not(play: Play) -> None:
    session, api = play({}, "first")
    session.hook("Stop")
    # One exchange is not enough to be compacted.
    session.say("second")
    session.hook("Stop", 2)
    session.say("/compact")
    compacted = session.hook("SessionStart", 2)
    assert (compacted["source"], compacted["session_id"]) == ("compact", session.session)
    assert api.requests[-1].kind == "compact"
    session.sees("Compacted")
    session.say("/clear")
    cleared = session.hook("SessionStart", 3)
    assert cleared["source"] == "clear"
    assert cleared["session_id"] != session.session
    assert session.hooks("SessionEnd")[0]["reason"] == "clear"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_with_the_last_hook(play: Play, number: signal.Signals, code: int) -> None:
    session, _ = play({}, "first")
    session.hook("Stop")
    os.kill(session.pid, number)
    assert session.ended() == code
    assert session.hook("SessionEnd")["reason"] == "other"


def test_exit_is_zero(play: Play) -> None:
    session, _ = play({}, "first")
    session.hook("Stop")
    session.say("/exit")
    assert session.ended() == 0
    assert session.hooks("SessionEnd")[0]["reason"] == "prompt_input_exit"


def test_the_start_dialogs_come_in_their_order(play: Play) -> None:
    session, _ = play({}, start=False)
    (session.config / ".claude.json").write_text(
        '{"hasCompletedOnboarding": true, "theme": "dark"}'
    )
    session.start("--dangerously-skip-permissions", "first")
    accept(session, "Yes, I trust this folder")
    session.sees("Do you want to use this API key?")
    accept(session, "Yes")
    accept(session, "Yes, I accept")
    session.hook("Stop")


def test_the_scenario_kept_for_others_ends_in_a_commit(play: Play) -> None:
    kept = Path(__file__).resolve().parents[1] / "data" / "agents" / "api" / "commit.json"
    session, _ = play(json.loads(kept.read_text()), start=False)
    session.answer("PermissionRequest", 1, decision("allow"))
    session.start("--permission-mode", "default", "write and commit")
    assert session.hook("Stop")["last_assistant_message"] == "Committed agent.txt."
    assert session.git("log", "-1", "--format=%s") == "add agent.txt"
