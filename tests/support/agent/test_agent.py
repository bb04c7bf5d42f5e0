"""The scripted agent behaves outwardly as the recordings of Claude Code do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.agent.session import SCRIPTED, Session, decision, scripted
from tests.support.waiting import until

Json = dict[str, Any]
Play = Callable[..., Session]

pytestmark = pytest.mark.e2e  # not oj, but one process and more for each test

RECORDED = Path(__file__).resolve().parents[2] / "data" / "drivers" / "claude"
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
BASH = {
    "when": "BASH",
    "do": [
        {
            "bash": "touch made.txt && rm -f gone.txt",
            "description": "make a file",
            "ask": True,
        },
        {"say": "All done: {prompt}"},
    ],
}


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """Starts a scripted agent with a scenario; ends it afterwards."""
    with contextlib.ExitStack() as stack:

        def begin(scenario: Json, *arguments: str, start: bool = True) -> Session:
            session = stack.enter_context(scripted(tmp_path / "agent", scenario))
            if start:
                session.start(*arguments)
            return session

        yield begin


def recorded(name: str) -> list[tuple[str, Json]]:
    """Return a recording of hooks: name and payload."""
    lines = (RECORDED / f"hooks-{name}.jsonl").read_text("utf-8").splitlines()
    pairs = [line.partition("\t") for line in lines]
    return [(event.partition("-")[0], json.loads(payload)) for event, _, payload in pairs]


def shape(value: object) -> object:
    """Return what of a value is its shape: keys in their order, and kinds."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def shapes(payloads: list[tuple[str, Json]]) -> list[str]:
    """Return the shapes of hooks, in an order-preserving notation."""
    return [f"{event} {json.dumps(shape(payload))}" for event, payload in payloads]


def told(session: Session) -> list[tuple[str, Json]]:
    return [(payload["hook_event_name"], payload) for payload in session.hooks()]


def keys_of(entries: list[Json]) -> dict[str, set[str]]:
    """Return the keys that entries of each kind have in a log."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        kind = str(entry["type"])
        more = entry.get("attachment", {}).get("type") or entry.get("subtype")
        content = entry.get("message", {}).get("content")
        if more:
            kind += f"/{more}"
        elif isinstance(content, list):
            kind += f"/{content[0]['type']}"
        elif entry.get("isMeta"):
            kind += "/meta"
        found.setdefault(kind, set()).update(entry)
    return found


# ------------------------------------------------------------------------------------------------ the shape of recordings


def test_a_permission_and_a_blocked_stop_look_as_recorded(play: Play) -> None:
    again = {"when": "Stop hook feedback", "do": [{"say": "All done: Stop hook feedback"}]}
    session = play({"turns": [BASH, again], "notification": "now"}, start=False)
    session.hold("PermissionRequest")
    session.answer("SessionStart", 1, "PRIMED CONTEXT\n")
    blocked = {"decision": "block", "reason": "BLOCKED-ONCE please confirm"}
    session.answer("Stop", 2, blocked)
    session.start("BASH please")
    session.hook("PermissionRequest")
    (session.project / "now").touch()
    session.hook("Notification")
    session.sees("Do you want to proceed?")
    session.type("1")
    session.hook("Stop")
    session.sees("Worked for")
    session.say("hello again")
    session.hook("Stop", 3)
    session.sees("Worked for")
    session.say("/exit")
    assert session.ended() == 0
    wanted = recorded("until-exit")
    assert [event for event, _ in told(session)] == [event for event, _ in wanted]
    assert shapes(told(session)) == shapes(wanted)
    assert [stop["stop_hook_active"] for stop in session.hooks("Stop")] == [False, False, True]
    assert session.hooks("SessionEnd")[0]["reason"] == "prompt_input_exit"
    assert (session.project / "made.txt").exists()


def test_its_log_has_the_keys_of_the_recorded_one(play: Play) -> None:
    session = play({"turns": [BASH]}, start=False)
    session.answer("SessionStart", 1, "PRIMED CONTEXT\n")
    session.answer("PermissionRequest", 1, decision("allow"))
    session.answer("Stop", 1, {"decision": "block", "reason": "BLOCKED-ONCE please confirm"})
    session.start("BASH please")
    session.hook("Stop", 2)
    session.sees("Worked for")
    session.stop()
    lines = (RECORDED / "transcript-permission-and-stop.jsonl").read_text("utf-8").splitlines()
    wanted = keys_of([json.loads(line) for line in lines])
    ours = keys_of(session.transcript())
    # What a person typed at a terminal has no bearing on us; the rest of what the real program notes has no reader.
    unwritten = {"last-prompt", "attachment/agent_listing_delta", "attachment/skill_listing"}
    # Hooks decided nothing in the recording: a person did.
    unrecorded = {"attachment/hook_permission_decision"}
    assert {k: v for k, v in ours.items() if k not in unrecorded} == {
        k: v for k, v in wanted.items() if k not in unwritten | {"attachment/hook_blocking_error"}
    }
    chain = [entry for entry in session.transcript() if "parentUuid" in entry]
    assert [e["parentUuid"] for e in chain] == [None, *[e["uuid"] for e in chain[:-1]]]


def test_questions_answered_by_the_hook_look_as_recorded(play: Play) -> None:
    turn = {"do": [{"ask": QUESTIONS}, {"say": "All done: {prompt}"}]}
    session = play({"turns": [turn]}, start=False)
    answers = {"Which color?": "Blue", "Which sizes?": "Small, Large"}
    given = {"questions": QUESTIONS, "answers": answers}
    session.answer("PermissionRequest", 1, decision("allow", updatedInput=given))
    session.start("ASKTWO now")
    session.hook("Stop")
    wanted = recorded("question-answered-by-hook")[1:]
    ours = told(session)
    assert [event for event, _ in ours] == [event for event, _ in wanted]
    # The real program orders the keys of a question anew when it was answered; ours leaves them as they came.
    assert [sorted(payload) for _, payload in ours] == [sorted(payload) for _, payload in wanted]
    assert session.hooks("PostToolUse")[0]["tool_response"] == given


def test_a_plan_looks_as_recorded(play: Play) -> None:
    turn = {"do": [{"plan": "# Plan\n1. Do it"}, {"say": "done"}]}
    session = play({"turns": [turn], "notification": "now"}, "--permission-mode", "plan", "PLANIT")
    session.hook("PermissionRequest")
    (session.project / "now").touch()
    session.hook("Notification")
    assert shapes(told(session)) == shapes(recorded("plan")[1:])
    assert {p.get("permission_mode", "plan") for p in session.hooks()} == {"plan"}
    session.type("1")
    session.hook("Stop")
    assert session.hooks("PostToolUse")[0]["permission_mode"] == "default"


def test_an_api_error_looks_as_recorded(play: Play) -> None:
    error = {"error": "billing_error", "message": "Credit balance is too low"}
    session = play({"turns": [{"do": [error]}]}, "ERR400 x")
    session.hook("StopFailure")
    assert shapes(told(session)) == shapes(recorded("ERR400")[1:])
    session.sees("Credit balance is too low")
    entry = session.transcript()[-1]
    assert (entry["error"], entry["isApiErrorMessage"]) == ("billing_error", True)
    assert "Stop" not in session.story()


# ------------------------------------------------------------------------------------------------ decisions


def test_a_refusal_by_the_hook_goes_on_and_leaves_no_post_tool_use(play: Play) -> None:
    refused = {
        "bash": "touch made.txt",
        "ask": True,
        "refused": [{"say": "refused: {answer}"}],
    }
    session = play({"turns": [{"do": [refused, {"say": "after"}]}]}, start=False)
    session.answer("PermissionRequest", 1, decision("deny", message="not here"))
    session.start("go")
    session.hook("Stop")
    assert "PostToolUse" not in session.story()
    said = [
        e["message"]["content"][0].get("text")
        for e in session.transcript()
        if e["type"] == "assistant"
    ]
    assert said == [None, "refused: not here", "after"]
    assert not (session.project / "made.txt").exists()


@pytest.mark.parametrize("key", ["3", "\x1b", "\x1b[B\x1b[B\r"])
def test_a_refusal_by_key_ends_the_turn_without_a_hook(play: Play, key: str) -> None:
    session = play({"turns": [BASH], "notification": None}, "BASH")
    session.hook("PermissionRequest")
    session.sees("Do you want to proceed?")
    session.type(key)
    session.sees("Interrupted")
    session.sees("? for shortcuts")
    texts = [entry.get("message", {}).get("content") for entry in session.transcript()]
    assert texts[-1] == [{"type": "text", "text": "[Request interrupted by user for tool use]"}]
    assert session.story()[-1] == "PermissionRequest"


def test_of_the_newer_release_a_three_is_no_refusal_but_auto_mode(play: Play) -> None:
    session = play({"turns": [BASH], "release": "2.1.330", "notification": None}, "BASH")
    session.sees("3. Yes, and switch to auto mode")
    session.type("3")
    assert session.hook("Stop")["permission_mode"] == "auto"
    assert (session.project / "made.txt").exists()


def test_of_the_newer_release_a_plan_is_accepted_only_with_its_input(play: Play) -> None:
    turn = {"do": [{"plan": "# Plan"}, {"plan": "# Plan"}]}
    session = play({"turns": [turn], "release": "2.1.330"}, start=False)
    accepted = decision("allow", updatedInput={"plan": "# Plan"})
    session.answer("PermissionRequest", 1, accepted)
    session.answer("PermissionRequest", 2, decision("allow"))
    session.start("--permission-mode", "plan", "go")
    session.hook("Notification")
    assert len(session.hooks("PostToolUse")) == 1
    session.type("1")
    session.hook("Stop")


def test_of_the_newer_release_start_dialogs_take_no_digits(play: Play) -> None:
    session = play({"dialogs": ["trust", "bypass"], "release": "2.1.330"})
    session.sees("\u276f No, exit")
    session.type("1")
    session.type("\x1b[B")
    session.sees("\u276f Yes, I trust this folder")
    session.type("\r")
    session.sees("\u276f No, exit Yes, I accept")
    session.type("\r")
    assert session.ended() == 1


def test_a_person_at_the_terminal_may_be_faster_than_the_hook(play: Play) -> None:
    session = play({"turns": [BASH], "notification": None}, start=False)
    session.hold("PermissionRequest")
    session.start("BASH")
    session.sees("Do you want to proceed?")
    session.type("1")
    session.hook("Stop")
    session.answer("PermissionRequest", 1, decision("deny", message="too late"))
    assert (session.project / "made.txt").exists()


def test_questions_can_be_answered_by_keys(play: Play) -> None:
    session = play({"turns": [{"do": [{"ask": QUESTIONS}]}]}, "go")
    session.sees("Which color?")
    session.type("2")
    session.sees("[ ] Small")
    session.type("12")
    session.sees("[✔] Large")
    session.type("\t")
    session.sees("Submit answers")
    session.type("1")
    given = session.hook("PostToolUse")["tool_response"]["answers"]
    assert given == {"Which color?": "Blue", "Which sizes?": "Small, Large"}


def test_one_question_takes_a_digit_or_words_of_ones_own(play: Play) -> None:
    turns = [{"do": [{"ask": QUESTIONS[:1]}, {"ask": QUESTIONS[:1]}]}]
    session = play({"turns": turns}, "go")
    session.sees("Which color?")
    session.type("1")
    session.hook("PermissionRequest", 2)
    session.type("3")
    session.type("green")
    session.sees("3. green")
    session.type("\r")
    session.hook("PostToolUse", 2)
    given = [p["tool_response"]["answers"]["Which color?"] for p in session.hooks("PostToolUse")]
    assert given == ["Red", "green"]


def test_without_permissions_only_plans_and_questions_ask(play: Play) -> None:
    session = play({"turns": [BASH]}, "--dangerously-skip-permissions", "BASH")
    session.hook("Stop")
    assert "PermissionRequest" not in session.story()
    assert session.hooks("Stop")[0]["permission_mode"] == "bypassPermissions"


def test_hooks_may_block_a_prompt_and_a_tool(play: Play) -> None:
    session = play({"turns": [BASH]}, start=False)
    session.answer("UserPromptSubmit", 1, {"decision": "block", "reason": "not this one"})
    verdict = {"hookEventName": "PreToolUse", "permissionDecision": "deny"}
    session.answer("PreToolUse", 1, {"hookSpecificOutput": verdict})
    session.start("BASH")
    session.sees("not this one")
    session.say("BASH again")
    session.hook("Stop")
    assert session.story() == [
        "SessionStart",
        "UserPromptSubmit",
        "UserPromptSubmit",
        "PreToolUse",
        "Stop",
    ]


# ------------------------------------------------------------------------------------------------ the life of a session


def test_it_commits_what_it_wrote(play: Play) -> None:
    turn = {"do": [{"write": "a/b.txt", "text": "from {prompt}\n"}, {"commit": "add b"}]}
    session = play({"turns": [turn]}, "words")
    session.hook("Stop")
    assert session.git("log", "-1", "--format=%s") == "add b"
    assert session.git("show", "HEAD:a/b.txt") == "from words"


def test_blocks_of_one_answer_share_their_message_id(play: Play) -> None:
    work = [{"think": "hm"}, {"say": "I will"}, {"bash": "true"}, {"say": "done"}]
    session = play({"turns": [{"do": work}], "usage": {"output_tokens": 7}}, "go")
    session.hook("Stop")
    answers = [e["message"] for e in session.transcript() if e["type"] == "assistant"]
    kinds = [answer["content"][0]["type"] for answer in answers]
    assert kinds == ["thinking", "text", "tool_use", "text"]
    assert [answer["stop_reason"] for answer in answers] == ["tool_use"] * 3 + ["end_turn"]
    assert len({answer["id"] for answer in answers[:3]}) == 1
    assert answers[3]["id"] != answers[0]["id"]
    assert {answer["usage"]["output_tokens"] for answer in answers} == {7}


def test_it_waits_for_a_file_and_escape_interrupts(play: Play) -> None:
    turns = [
        {"when": "WAIT", "do": [{"touch": "here"}, {"await": "go"}, {"say": "went"}]},
    ]
    session = play({"turns": turns}, "WAIT one")
    until((session.project / "here").exists, 20, "the first wait")
    (session.project / "go").touch()
    session.hook("Stop")
    (session.project / "go").unlink()
    session.say("WAIT two")
    session.sees("esc to interrupt")
    session.hook("UserPromptSubmit", 2)
    session.type("\x1b")
    session.sees("Interrupted")
    assert session.story().count("Stop") == 1
    texts = [entry.get("message", {}).get("content") for entry in session.transcript()]
    assert texts[-1] == [{"type": "text", "text": "[Request interrupted by user]"}]


def test_words_typed_meanwhile_are_queued(play: Play) -> None:
    turns = [{"when": "WAIT", "do": [{"await": "go"}, {"say": "went"}]}]
    session = play({"turns": turns}, "WAIT")
    session.sees("esc to interrupt")
    session.say("and more")
    until(lambda: any(e["type"] == "queue-operation" for e in session.transcript()), 20, "queued")
    assert session.story().count("UserPromptSubmit") == 1
    (session.project / "go").touch()
    session.hook("Stop", 2)
    assert session.story()[-4:] == ["UserPromptSubmit", "Stop", "UserPromptSubmit", "Stop"]
    assert session.hooks("UserPromptSubmit")[1]["prompt"] == "and more"


def test_a_retry_notice_stands_on_the_screen_and_no_hook_fires(play: Play) -> None:
    turn = {"do": [{"retrying": "go", "seconds": 9, "attempt": 4}, {"say": "went"}]}
    session = play({"turns": [turn]}, "go")
    session.sees("API error · Retrying in 9s · attempt 4/10")
    assert session.story() == ["SessionStart", "UserPromptSubmit"]
    (session.project / "go").touch()
    session.hook("Stop")


def test_pasted_lines_are_one_prompt(play: Play) -> None:
    session = play({})
    session.sees("? for shortcuts")
    session.type("\x1b[200~one\ntwo\rthree\x1b[201~")
    session.type("\r")
    assert session.hook("UserPromptSubmit")["prompt"] == "one\ntwo\nthree"
    session.hook("Stop")
    session.type("a\nb")
    session.type("\r")
    assert session.hook("UserPromptSubmit", 2)["prompt"] == "a\nb"


def test_a_resumed_session_goes_on_in_its_log(play: Play) -> None:
    turns = [
        {"times": 1, "do": [{"say": "one"}]},
        {"resumed": True, "do": [{"say": "three"}]},
        {"do": [{"say": "two"}]},
    ]
    session = play({"turns": turns}, "first")
    session.hook("Stop")
    session.sees("Worked for")
    session.kill()
    assert session.story()[-1] == "Stop"
    session.start("second", resume=True)
    assert session.hook("Stop", 2)["last_assistant_message"] == "three"
    session.sees("first")
    start = session.hooks("SessionStart")[1]
    assert (start["source"], "model" in start) == ("resume", False)
    assert len({payload["session_id"] for payload in session.hooks()}) == 1
    chain = [entry for entry in session.transcript() if "parentUuid" in entry]
    assert [e["parentUuid"] for e in chain] == [None, *[e["uuid"] for e in chain[:-1]]]


def test_a_session_that_is_not_there_cannot_be_resumed(play: Play) -> None:
    session = play({}, start=False)
    session.start(resume=True)
    assert session.ended() == 1
    session.sees("No conversation found")


def test_clear_begins_another_session_and_compact_does_not(play: Play) -> None:
    session = play({}, "hello")
    session.hook("Stop")
    session.sees("Worked for")
    session.say("/compact")
    compacted = session.hook("SessionStart", 2)
    assert (compacted["source"], compacted["session_id"]) == ("compact", session.session)
    session.sees("Compacted")
    assert "compact_boundary" in [entry.get("subtype") for entry in session.transcript()]
    session.say("/clear")
    cleared = session.hook("SessionStart", 3)
    assert cleared["source"] == "clear"
    assert cleared["session_id"] != session.session
    assert session.hooks("SessionEnd")[0]["reason"] == "clear"
    assert cleared["transcript_path"].endswith(f"{cleared['session_id']}.jsonl")


@pytest.mark.parametrize(
    ("dialogs", "keys", "code"),
    [
        (["trust"], ["\r"], None),
        (["trust"], ["2"], 1),
        (["key"], ["1"], None),
        (["bypass"], ["\r"], 1),
        (["trust", "key", "bypass"], ["1", "1", "2"], None),
        (["bypass"], ["\x1b"], 1),
    ],
)
def test_start_dialogs_decide_before_the_session_starts(
    play: Play, dialogs: list[str], keys: list[str], code: int | None
) -> None:
    heads = {
        "trust": "Accessing workspace:",
        "key": "Do you want to use this API key?",
        "bypass": "WARNING: Claude Code running in Bypass Permissions mode",
    }
    session = play({"dialogs": dialogs})
    for dialog, key in zip(dialogs, keys, strict=True):
        session.sees(heads[dialog])
        session.type(key)
    if code is None:
        session.hook("SessionStart")
    else:
        assert session.ended() == code
        assert "SessionStart" not in session.story()


# ------------------------------------------------------------------------------------------------ ends and other trouble


@pytest.mark.parametrize(
    ("action", "code", "last"),
    [
        ({"exit": 3}, 3, "SessionEnd"),
        ({"signal": "SEGV"}, -signal.SIGSEGV, "UserPromptSubmit"),
        ({"signal": "KILL"}, -signal.SIGKILL, "UserPromptSubmit"),
    ],
)
def test_it_ends_as_told(play: Play, action: Json, code: int, last: str) -> None:
    session = play({"turns": [{"do": [action]}]}, "go")
    assert session.ended() == code
    assert session.story()[-1] == last


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_with_the_last_hook(play: Play, number: signal.Signals, code: int) -> None:
    session = play({}, "go")
    session.hook("Stop")
    os.kill(session.pid, number)
    assert session.ended() == code
    assert session.hook("SessionEnd")["reason"] == "other"


def test_it_can_be_deaf_to_signals(play: Play) -> None:
    session = play({"ignore": ["HUP", "TERM"]}, "go")
    session.hook("Stop")
    os.kill(session.pid, signal.SIGHUP)
    os.kill(session.pid, signal.SIGTERM)
    session.say("still here")
    session.hook("Stop", 2)
    assert session.alive


def test_its_child_outlives_it(play: Play) -> None:
    child = {"pid": "child.pid", "session": True, "until": "enough"}
    session = play({"turns": [{"do": [{"child": child}, {"exit": 0}]}]}, "go")
    assert session.ended() == 0
    left = psutil.Process(int((session.project / "child.pid").read_text()))
    left.terminate()
    left.send_signal(signal.SIGHUP)
    assert left.is_running()
    (session.project / "enough").touch()
    left.wait(20)


@pytest.mark.parametrize("kind", ["text", "binary", "escapes", "line"])
def test_a_flood_has_its_size_and_the_session_goes_on(play: Play, kind: str) -> None:
    flood = {"flood": {"megabytes": 0.5, "kind": kind}}
    session = play({"turns": [{"do": [flood, {"print": "\u001bc"}]}]}, "go")
    session.hook("Stop")
    assert len(session.output) >= 500_000


def test_it_asks_the_terminal_and_hears_the_answer(play: Play) -> None:
    query = {"query": "\u001b[c", "to": "answer", "seconds": 20}
    session = play({"turns": [{"do": [query]}], "keys": "keys"}, "go")
    until(lambda: b"\x1b[c" in session.output, 20, "the query")
    session.type("\x1b[?62;4c")
    session.hook("Stop")
    assert (session.project / "answer").read_text() == "\x1b[?62;4c"
    assert (session.project / "keys").read_bytes() == b"\x1b[?62;4c"


def test_it_plays_hooks_and_log_lines_as_they_are_given(play: Play) -> None:
    raw = [
        {"hook": "Notification", "payload": {"message": "m", "notification_type": "idle_prompt"}},
        {"log_raw": '{"type":"user","half'},
        {"log_raw": '":1}\n'},
        {"run": "echo out; exit 4", "to": "ran"},
        {"env": "env.json"},
    ]
    session = play({"turns": [{"do": raw}]}, "go")
    session.hook("Stop")
    assert session.hooks("Notification")[0]["notification_type"] == "idle_prompt"
    assert {"type": "user", "half": 1} in session.transcript()
    assert (session.project / "ran").read_text() == "out\nexit 4\n"
    known = json.loads((session.project / "env.json").read_text())
    assert known["env"]["CLAUDE_CONFIG_DIR"] == str(session.config)
    assert "--session-id" in known["argv"]


def test_it_may_close_its_terminal_and_live_on(play: Play) -> None:
    session = play({"turns": [{"do": [{"close": "enough"}, {"touch": "late"}, {"exit": 5}]}]}, "go")
    session.hook("UserPromptSubmit")
    assert session.alive
    (session.project / "enough").touch()
    assert session.ended() == 5
    assert (session.project / "late").exists()


def test_a_mistake_in_a_scenario_is_named(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.json"
    scenario.write_text('{"turns": [{"do": [{"sya": "x"}], "wehn": "y"}]}')
    command = [str(SCRIPTED), "--scenario", str(scenario)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "turn 1: unknown key 'wehn'; turn 1: no action 'sya'" in done.stderr


@pytest.mark.parametrize("name", ["commit", "decide"])
def test_the_scenarios_kept_for_others_play(play: Play, name: str) -> None:
    kept = RECORDED.parents[1] / "agents" / "scripted" / f"{name}.json"
    session = play(json.loads(kept.read_text()), start=False)
    answers = {"Which color?": "Blue", "Which sizes?": "Small, Large"}
    given = {"questions": QUESTIONS, "answers": answers}
    session.answer("PermissionRequest", 1, decision("allow", updatedInput=given))
    session.start("go")
    assert session.hook("Stop")["last_assistant_message"]
    assert session.git("rev-list", "--count", "HEAD") == "2"
