"""Decisions -> what stands in cells and lines.

Rule: pure, as render.py. A person decides by what is shown here: nothing of it may be hidden by the one who asks.
"""

from __future__ import annotations

from typing import Final

from oj_daemon.wire import answers
from oj_daemon.wire.format import since
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import visible
from oj_tui.render import Line, Piece, clean, status
from oj_tui.store import View

PLAN: Final = "\n\nPlan:\n"
"""What stands before the plan in the context of a decision about one."""
LABEL: Final = 10
"""Columns of the names of fields."""


def decision_row(view: View, now: int) -> list[Piece]:
    """A row of the list of decisions: id, source, owner, step, agent, status, age, deadline, summary."""
    return [
        (short_id(view["id"]), "muted"),
        (clean(view["source"]), "warn" if view["status"] == "open" else "muted"),
        (clean(answers.owner_name(view)), "name"),
        (clean(view["step"]), ""),
        (clean(view["agent_name"]), "muted"),
        decision_status(view),
        (since(view["created_at_ms"], now), "muted"),
        (clean(answers.deadline(view, now)), "warn"),
        (clean(view["summary"]), ""),
    ]


def decision_status(view: View) -> Piece:
    """Where it is: its sign and its word; dismissed ones are called what they are, put aside."""
    word = clean(view["status"])
    signs = {"open": "?", "dismissed": "‖", "resolved": "✓", "obsolete": "⊘"}
    styles = {"open": "warn", "dismissed": "muted", "resolved": "good", "obsolete": "muted"}
    if word not in signs:
        return status(word)
    return f"{signs[word]} {'put aside' if word == 'dismissed' else word}", styles[word]


def in_order(views: list[View]) -> list[View]:
    """Open ones first, the oldest on top; then those put aside; then what is closed, the newest on top."""
    rank = {"open": 0, "dismissed": 1}

    def place(view: View) -> tuple[int, int]:
        kind = rank.get(str(view["status"]), 2)
        at = int(view["created_at_ms"])
        return kind, at if kind < 2 else -int(view["resolved_at_ms"] or at)

    return sorted(views, key=place)


def decision_head(view: View, now: int) -> list[Line]:
    """Who asks, what, and since when."""
    source = answers.SOURCES.get(view["source"], clean(view["source"]))
    is_crew = str(view["owner_id"]).startswith("crw-")
    step = [] if is_crew or not view["step"] else [(f", step {clean(view['step'])}", "")]
    made: list[Line] = [
        [
            (f"{source}: ", "warn"),
            (clean(view["summary"]), "title"),
        ],
        [
            ("Decision ".ljust(LABEL), "muted"),
            (short_id(view["id"]), ""),
            (f", asked {since(view['created_at_ms'], now)} ago", "muted"),
        ],
        [
            (("Agent" if is_crew else "Job").ljust(LABEL), "muted"),
            (clean(answers.owner_name(view)), "name"),
            *step,
            (f", agent {clean(view['agent_name'])}", ""),
            (f" in {clean(view['project'])}", "muted") if view["project"] else ("", ""),
        ],
    ]
    left = answers.deadline(view, now)
    if left:
        made.append([("Deadline".ljust(LABEL), "muted"), (clean(left), "warn")])
    return made + outcome(view, now)


def outcome(view: View, now: int) -> list[Line]:
    """How a decision that is no longer open was decided, and by whom; of an open one, what became of it so far."""
    note = clean(view["note"])
    word = view["status"]
    if word == "open":
        return [[("Note".ljust(LABEL), "muted"), (note, "")]] if note else []
    when = f" {since(view['resolved_at_ms'], now)} ago" if view["resolved_at_ms"] else ""
    if word == "resolved":
        by = clean(answers.answered_by(view)) or "someone"
        what = clean(answers.chosen(view))
        said = clean(view["message"])
        both = f"{what}: {said}" if what and said else what or said
        made: list[Line] = [[(f"✓ answered by {by}{when}: ", "good"), (both, "title")]]
    elif word == "dismissed":
        made = [[(f"‖ put aside{when}: ", "warn"), (note or "by someone", "")]]
        return [*made, [("Its owner still waits; o opens it again.", "muted")]]
    else:
        why = note or "the agent went on or ended"
        return [[(f"⊘ no longer asked{when}: ", "muted"), (why, "")]]
    return [*made, [("Note".ljust(LABEL), "muted"), (note, "")]] if note else made


def split_plan(view: View) -> tuple[str, str]:
    """The context, and the plan that is to be approved; the latter is empty where there is none."""
    context = str(view["context"]).rstrip()
    if view["source"] != "plan":
        return context, ""
    head, mark, plan = context.partition(PLAN)
    return (head, plan) if mark else (context, "")


def plain(text: str) -> str:
    """Lines of others, each made harmless."""
    return "\n".join(visible(line.replace("\t", "    ")) for line in text.splitlines())


def option_lines(option: View) -> list[Line]:
    """An option: its label, whether it is recommended, and what it means."""
    made: list[Line] = [
        [
            (clean(option["label"]), ""),
            *([("  (recommended)", "good")] if option["recommended"] else []),
        ]
    ]
    made.extend([(visible(text), "muted")] for text in str(option["description"]).splitlines())
    return made


def question_title(group: View, at: int, count: int) -> Line:
    """A question of a form; several are counted."""
    number = f"Question {at} of {count}: " if count > 1 else ""
    header = f"[{clean(group['header'])}] " if group["header"] else ""
    several = "  (several may be chosen)" if group["multi_select"] else ""
    return [(number, "muted"), (f"{header}{clean(group['question'])}", "title"), (several, "muted")]


def left_open(count: int) -> str:
    """How many decisions are open besides one that was just answered; empty for none."""
    if not count:
        return ""
    return "1 more decision is open" if count == 1 else f"{count} more decisions are open"
