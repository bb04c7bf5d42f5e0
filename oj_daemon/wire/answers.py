"""Decisions in words, and which answers mean something; shared by all front ends.

Rule: pure, but for `user_name`; standard library only. Views are the plain dictionaries of the wire. Whether an answer fits is the
daemon's to say: here only what is plainly a slip is found, so that it can be asked again at once.
"""

from __future__ import annotations

from typing import Any, Final

from oj_daemon.wire.format import elapsed
from oj_daemon.wire.names import short_id

View = dict[str, Any]
"""A DecisionView as it came over the wire."""

SOURCES: Final = {
    "idle": "Idle",
    "dead": "Exited",
    "error": "Error",
    "gate": "Gate",
    "approval": "Permission Approval",
    "question": "Question",
    "plan": "Plan Approval",
}
CANCEL: Final = "Cancel"
"""The option that ends the job."""
OTHER: Final = "Other"
MESSAGE_FOR: Final = ("Nudge", "Retry")
"""Options that a message may go with."""
MESSAGE_NEEDED: Final = ("Revise", OTHER)
"""Options that mean nothing without a message."""


def user_name() -> str:
    """Who sits here; empty where the system does not know."""
    from getpass import getuser  # noqa: PLC0415 - only when something is decided

    try:
        return getuser()
    except (KeyError, OSError, ImportError):  # no name in the environment, none for our user id
        return ""


def owner_name(view: View) -> str:
    """What to call the job, or the stand-alone agent, that waits."""
    name = str(view["owner_name"])
    return short_id(name) if name == view["owner_id"] else name


def deadline(view: View, now: int) -> str:
    """When the decision takes itself, and how; empty where it waits for ever."""
    at = view["deadline_at_ms"]
    if not at or view["status"] != "open":
        return ""
    when = f"in {elapsed(at - now)}" if at > now else "now"
    return f"{when}, then {view['default'].lower() or 'everybody is asked again'}"


def chosen(view: View) -> str:
    """The labels of what was chosen."""
    groups = view["question_groups"]
    if len(groups) < 2 or len(view["choices"]) != len(groups):
        picks = view["choices"][0] if view["choices"] else []
        return ", ".join(label(view["options"], number) for number in picks)
    return "; ".join(
        f"{group['header'] or group['question']}: "
        + ", ".join(label(group["options"], number) for number in picks)
        for group, picks in zip(groups, view["choices"], strict=False)
    )


def answered_by(view: View) -> str:
    """Who answered, and by which way: `ann (cli)`."""
    by, channel = view["by"], view["channel"]
    return " ".join(
        part for part in (by, f"({channel})" if channel not in ("", by) else "") if part
    )


def label(options: list[View], number: int) -> str:
    """What an option is called; behind the options of one of several questions stands Other."""
    return next((str(each["label"]) for each in options if each["number"] == number), OTHER)


def own_label(view: View, number: int) -> str:
    """The label of one of `oj`'s own options; empty for those of the agent, which may be called anything."""
    groups = view["question_groups"]
    asked = len(groups[0]["options"]) if len(groups) == 1 else 0
    return label(view["options"], number) if number > asked else ""


def missing(view: View, choices: list[list[int]], texts: dict[int, str]) -> str:
    """What an answer lacks, in words; empty when nothing does. `texts` are the texts for Other, by the index of their question."""
    groups = view["question_groups"]
    if len(groups) < 2:
        picked = choices[0] if choices else []
        words = [own_label(view, number) for number in picked]
        needy = next((word for word in words if word in MESSAGE_NEEDED), "")
        if needy and not texts.get(0, "").strip():
            return f"{needy} needs a message"
        return "" if picked or texts.get(0, "").strip() else "nothing was chosen"
    for at, (group, picked) in enumerate(zip(groups, choices, strict=True)):
        if not picked:
            return f"question {at + 1} has no answer yet"
        if len(group["options"]) + 1 in picked and not texts.get(at, "").strip():
            return f"question {at + 1}: {OTHER} needs a text"
    return ""


def message_of(choices: list[list[int]], texts: dict[int, str], groups: list[View]) -> str:
    """The one message of an answer to several questions: the texts of those answered by Other."""
    used = [
        texts[at].strip()
        for at, (group, picked) in enumerate(zip(groups, choices, strict=True))
        if len(group["options"]) + 1 in picked and texts.get(at, "").strip()
    ]
    return "; ".join(used)
