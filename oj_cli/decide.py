"""Decisions for people: as text, and answered in a talk.

Rule: no requests. What is shown and asked comes from a DecisionView; what was answered goes back to the caller, who sends
it. Whether an answer fits is the daemon's to say; here only what is plainly a slip is asked again.
"""

from __future__ import annotations

import sys

from oj_cli import output
from oj_daemon.errors import OjError
from oj_daemon.wire import answers
from oj_daemon.wire.answers import (
    MESSAGE_FOR,
    MESSAGE_NEEDED,
    SOURCES,
    answered_by,
    chosen,
    deadline,
    own_label,
)
from oj_daemon.wire.format import elapsed, moment
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oj_cli.output import Text

    Line = list[Text]
    Read = Callable[[str], str | None]
    """Shows a question to the person and returns the line typed; None when nothing more can come."""


class Answer:
    """What a person decided."""

    def __init__(self, choices: list[list[int]], message: str = "") -> None:
        self.choices = choices
        self.message = message


SKIP = Answer([])
"""Not now: the decision stays open."""
QUIT = Answer([])
"""Not this one and none after it."""


def fields(decision_id: str, answer: Answer) -> dict[str, Any]:
    """DecisionResolve for an answer given at this machine."""
    return {
        "id": decision_id,
        "choices": answer.choices,
        "message": answer.message,
        "by": answers.user_name(),
        "channel": "cli",
    }


def numbers(word: str) -> list[int]:
    """The numbers of `2` or `1,3`."""
    found = _numbers(word)
    if found is None:
        text = f"'{word}' is no number of an option"
        hint = "oj decision resolve ID 2; for text: oj decision resolve ID -m 'text'"
        raise OjError(text, code="invalid", hint=hint)
    return found


def _numbers(word: str) -> list[int] | None:
    pieces = [piece.strip() for piece in word.split(",")]
    if not all(piece.isascii() and piece.isdigit() and len(piece) < 10 for piece in pieces):
        return None
    return [int(piece) for piece in pieces]


# As text


def lines(view: dict[str, Any], now: int, *, with_hint: bool = True) -> list[Line]:
    """Everything that `oj decision show` prints."""
    step = f", step {view['step']}" if not view["owner_id"].startswith("crw-") else ""
    fields: list[tuple[str, Line]] = [
        ("Decision", [output.literal(view["id"])]),
        ("Owner", [f"{view['owner_name']} (", output.literal(short_id(view["owner_id"])), f"){step}"]),
        ("Source", [SOURCES.get(view["source"], view["source"])]),
        ("Age", [elapsed(max(0, now - view["created_at_ms"]))]),
        ("Agent", [f"{view['agent_name']} (", output.literal(short_id(view["agent_id"])), ")"]),
        ("Project", [view["project"]]),
        ("Deadline", [deadline(view, now)]),
        *_outcome(view),
        ("Note", [one_line(view["note"])]),
    ]  # fmt: skip
    made: list[Line] = [
        [output.header(f"{label}:"), " " * (10 - len(label)), *parts]
        for label, parts in fields
        if any(output.plain(part) for part in parts)
    ]
    made += [[], [output.header("Context:")], *context(view)]
    made += [[], *options(view)]
    if with_hint and view["status"] == "open":
        made += [[], *hint(view)]
    elif with_hint and view["status"] == "dismissed":
        short = short_id(view["id"])
        made += [[], [output.context("To decide: "), output.literal(f"oj decision reopen {short}")]]
    return made


def _outcome(view: dict[str, Any]) -> list[tuple[str, Line]]:
    """How a decision that is no longer open was decided."""
    if view["status"] == "open":
        return []
    when = f" {moment(view['resolved_at_ms'])}" if view["resolved_at_ms"] else ""
    return [
        ("Status", [output.status(view["status"]), when]),
        ("Chosen", [chosen(view)]),
        ("Message", [one_line(view["message"])]),
        ("By", [answered_by(view)]),
    ]


def context(view: dict[str, Any]) -> list[Line]:
    """What the decision is about."""
    return [[f"  {text}" if text else ""] for text in view["context"].rstrip().split("\n")]


def options(view: dict[str, Any]) -> list[Line]:
    """What can be answered: numbered options, those of several questions one question after the other."""
    groups = view["question_groups"]
    if len(groups) < 2:
        several = "several may be chosen" if groups and groups[0]["multi_select"] else ""
        heading: Line = [output.header("Options:"), output.muted(f" {several}" if several else "")]
        return [heading, *_numbered(view["options"])]
    made: list[Line] = []
    for at, group in enumerate(groups, 1):
        made += [[], *question(group, at)] if made else question(group, at)
    return made


def question(group: dict[str, Any], at: int) -> list[Line]:
    """One of several questions with its options."""
    several = " (several may be chosen)" if group["multi_select"] else ""
    header = f"[{group['header']}] " if group["header"] else ""
    other = {
        "number": len(group["options"]) + 1,
        "label": "Other",
        "description": "",
        "recommended": False,
    }
    return [
        [
            output.header(f"Question {at}:"),
            f" {header}{one_line(group['question'])}",
            output.muted(several),
        ],
        *_numbered([*group["options"], other]),
    ]


def _numbered(entries: list[dict[str, Any]]) -> list[Line]:
    room = len(str(len(entries)))
    made: list[Line] = []
    for entry in entries:
        mark = output.context(" (recommended)" if entry["recommended"] else "")
        made.append(
            [
                "  ",
                output.literal(f"{entry['number']:>{room}}."),
                f" {one_line(entry['label'])}",
                mark,
            ]
        )
        if entry["description"]:
            pad = " " * (room + 4)
            made += [[output.muted(f"{pad}{text}")] for text in entry["description"].splitlines()]
    return made


def hint(view: dict[str, Any]) -> list[Line]:
    """What to type to answer."""
    short = short_id(view["id"])
    count = len(view["question_groups"])
    words = " ".join("N" * count) if count > 1 else "N"
    more = f"one number for each of the {count} questions" if count > 1 else ""
    return [
        [
            output.context("To answer: "),
            output.literal(f"oj decision resolve {short} {words} [-m TEXT]"),
            output.context(f"  ({more})" if more else ""),
        ]
    ]


# In a talk


def read_line(prompt: str) -> str | None:
    """Ask at the terminal and wait for a line."""
    output.write(prompt)
    line = sys.stdin.readline()
    if not line:
        output.write("\n")
        return None
    return line.strip()


def ask(view: dict[str, Any], read: Read = read_line) -> Answer:
    """Ask a person for the answer; SKIP and QUIT are answers too. The options were shown before."""
    groups = view["question_groups"]
    if len(groups) > 1:
        return _ask_each(groups, read)
    several = bool(groups) and groups[0]["multi_select"]
    while True:
        picked = _pick(read, "Your answer", len(view["options"]), several=several)
        if isinstance(picked, Answer):
            return picked
        labels = [own_label(view, number) for number in picked]
        message = _message(labels, read)
        if message is not None:
            return Answer([picked], message)


def _ask_each(groups: list[dict[str, Any]], read: Read) -> Answer:
    choices: list[list[int]] = []
    messages: list[str] = []
    for at, group in enumerate(groups, 1):
        other = len(group["options"]) + 1
        picked = _pick(read, f"Question {at}", other, several=group["multi_select"])
        if isinstance(picked, Answer):
            if not picked.message:
                return picked
            choices.append([other])
            messages.append(picked.message)
            continue
        if other in picked:
            text = _message(["Other"], read)
            if text is None:
                return SKIP
            messages.append(text)
        choices.append(picked)
    return Answer(choices, "; ".join(messages))


def _pick(read: Read, what: str, count: int, *, several: bool) -> list[int] | Answer:
    """Numbers of options; or a whole answer, which is text alone, SKIP or QUIT."""
    form = f"1-{count}, several by commas" if several else f"1-{count}"
    while True:
        typed = read(f"{what} ({form}, or text; Enter skips, q quits): ")
        if typed is None or typed.lower() in ("q", "x"):
            return QUIT
        if not typed or typed.lower() == "s":
            return SKIP
        found = _numbers(typed)
        if found is None and len(typed) > 1:
            return Answer([], typed)
        if found and (several or len(found) == 1) and all(1 <= each <= count for each in found):
            return found
        output.line(f"'{typed}' is no answer: type a number from 1 to {count}, or a text")


def _message(labels: list[str], read: Read) -> str | None:
    """The message that goes with what was chosen; None when it needs one and none was given."""
    if any(label in MESSAGE_NEEDED for label in labels):
        typed = read("Message: ")
        if not typed:
            output.line(f"{labels[0]} needs a message")
        return typed or None
    if any(label in MESSAGE_FOR for label in labels):
        return read("Message for the agent (Enter: none): ") or ""
    return ""
