"""The scripted agent and the real program, told the same story, leave the same hooks and the same log behind.

Rule: compared is what a driver reads: which hooks came in which order, with which keys, and which keys the entries of the
log have. The real program may say more (keys that a release added); never less.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent.session import Session, decision, scripted
from tests.support.anthropic.server import ApiServer

Json = dict[str, Any]
Play = Callable[..., tuple[Session, ApiServer]]

pytestmark = pytest.mark.timeout(240)

BASH: Json = {"command": "touch made", "description": "make"}
PLAN: Json = {"plan": "# Plan\n1. Do it"}
ASK: Json = {
    "questions": [
        {
            "question": "Which color?",
            "header": "Color",
            "options": [
                {"label": "Red", "description": "warm"},
                {"label": "Blue", "description": "cold"},
            ],
            "multiSelect": False,
        }
    ]
}
TURNS: list[tuple[str, Json, Json, Json | None]] = [
    # A plan comes first: outside of plan mode the tool is refused before any hook.
    ("PLAN", {"tool": "ExitPlanMode", "input": PLAN}, PLAN, decision("allow", updatedInput=PLAN)),
    (
        "WORK",
        {"think": "hm", "say": "I will", "tool": "Bash", "input": BASH},
        {"bash": BASH["command"], "description": "make", "ask": True},
        decision("allow"),
    ),
    (
        "REFUSED",
        {"tool": "Bash", "input": BASH},
        {"bash": BASH["command"], "ask": True},
        decision("deny", message="no"),
    ),
    (
        "ASK",
        {"tool": "AskUserQuestion", "input": ASK},
        {"ask": ASK["questions"]},
        decision("allow", updatedInput={**ASK, "answers": {"Which color?": "Red"}}),
    ),
    (
        "BROKE",
        {"status": 400},
        {"error": "billing_error", "message": "Credit balance is too low"},
        None,
    ),
]
"""Prompt, what the API says, what the scenario does, what the hook decides."""

READ = {
    "user",
    "assistant",
    "user/text",
    "assistant/text",
    "assistant/thinking",
    "assistant/tool_use",
}
READ |= {"user/tool_result", "user/meta"}


def tell(session: Session) -> None:
    """Play the story: a prompt for each turn, and the second answer sent back by the stop hook."""
    decisions = [answer for _, _, _, answer in TURNS if answer]
    for number, answer in enumerate(decisions, 1):
        session.answer("PermissionRequest", number, answer)
    session.answer("SessionStart", 1, "PRIMED\n")
    session.answer("Stop", 2, {"decision": "block", "reason": "again"})
    session.start("--permission-mode", "plan", TURNS[0][0])
    for number, (prompt, *_) in enumerate(TURNS, 1):
        if number > 1:
            session.say(prompt)
        if prompt == "BROKE":
            session.hook("StopFailure")
        else:
            session.hook("Stop", number if number == 1 else number + 1)
    session.logged(lambda entry: entry.get("isApiErrorMessage"))
    session.settle()
    session.say("/exit")
    assert session.ended() == 0


def keys_of(session: Session) -> dict[str, set[str]]:
    """Return the keys that all entries of a kind have, of the kinds that a driver reads."""
    found: dict[str, set[str]] = {}
    for entry in session.transcript():
        content = entry.get("message", {}).get("content")
        kind = (
            f"{entry['type']}/{content[0]['type']}" if isinstance(content, list) else entry["type"]
        )
        if isinstance(content, str) and content.startswith("<"):
            continue  # the echo of a slash command
        kind += "/meta" if entry.get("isMeta") else ""
        if kind in READ:
            found[kind] = found.get(kind, set(entry)) & set(entry)
    return found


def test_the_same_story_leaves_the_same_traces(play: Play, tmp_path: Path) -> None:
    api = [{"when": f"^{prompt}$", "answers": [answer]} for prompt, answer, _, _ in TURNS]
    theirs, _ = play({"turns": api}, start=False)
    tell(theirs)
    end: list[Json] = [{"say": "All done: {prompt}"}]
    talk: list[Json] = [{"think": "hm"}, {"say": "I will"}]
    turns = [
        {"when": f"^{prompt}$", "do": [*(talk if prompt == "WORK" else []), action, *end]}
        for prompt, _, action, _ in TURNS
    ]
    with scripted(tmp_path / "ours", {"turns": turns}) as ours:
        tell(ours)
        assert ours.story() == theirs.story()
        for mine, real in zip(ours.hooks(), theirs.hooks(), strict=True):
            event = mine["hook_event_name"]
            assert set(mine) <= set(real), event
            assert set(real) - set(mine) <= {"session_title"}, event
            assert mine.get("error") == real.get("error")
            assert mine.get("reason") == real.get("reason")
            assert mine.get("source") == real.get("source")
            assert mine.get("stop_hook_active") == real.get("stop_hook_active")
        seen, wanted = keys_of(ours), keys_of(theirs)
        assert set(seen) == set(wanted)
        for kind, keys in seen.items():
            assert keys <= wanted[kind], kind
