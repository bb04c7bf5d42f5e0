"""Which rows of a list are shown, in which order, and under which lines.

Rule: pure, and by value: the same views and the same wishes give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from oj_daemon.wire.names import short_id
from oj_tui.render import clean
from oj_tui.store import View

Key = Callable[[View], object]

JOB_FIELDS: Final = ("name", "kind", "project", "step", "status", "id", "reason")
"""What a filter of jobs looks at."""
STATUSES: Final = (
    "waiting", "failed", "suspended", "ending", "running", "pending", "cancelled", "completed",
)  # fmt: skip
"""What needs a human most comes first."""
RANKS: Final = {word: rank for rank, word in enumerate(STATUSES)}
JOB_ORDERS: Final[dict[str, Key]] = {
    "AGE": lambda job: -int(job["updated_at_ms"]),
    "NAME": lambda job: name_of(job).lower(),
    "PROJECT": lambda job: str(job["project"]).lower(),
    "STEP": lambda job: str(job["step"]).lower(),
    "STATUS": lambda job: RANKS.get(job["status"], len(RANKS)),
    "TRY": lambda job: -int(job["retries"]),
}
"""Title of a column -> what jobs are sorted by; those that are equal stand in order of their last change."""
FALLING: Final = frozenset({"TRY"})
"""Orders that begin with the most."""
JOB_GROUPS: Final = ("", "project", "status", "kind")
"""What jobs can be put together by; nothing first."""


class Wish(msgspec.Struct, frozen=True):
    """How a list is wanted."""

    order: str = "AGE"
    """A key of the orders of this list."""
    is_reversed: bool = False
    words: str = ""
    """Filter: each word must be somewhere in one of the fields; `field:word` in that one."""
    group: str = ""
    """Field whose values the rows stand under."""


def name_of(job: View) -> str:
    """The name of a job; its kind when it was given none."""
    return str(job["kind"] if job["name"] == job["id"] else job["name"])


def jobs(all_jobs: Sequence[View], wish: Wish) -> list[View]:
    """Jobs as they are wanted, with lines between groups."""
    found = matching(all_jobs, wish.words, JOB_FIELDS)
    found.sort(key=JOB_ORDERS["AGE"])  # type: ignore[arg-type]  # each order compares with itself alone
    if wish.order != "AGE":
        found.sort(key=JOB_ORDERS[wish.order])  # type: ignore[arg-type]  # the same
    if wish.is_reversed:
        found.reverse()
    return grouped(found, wish.group)


def matching(views: Sequence[View], words: str, fields: Sequence[str]) -> list[View]:
    """Those that have every word, in whichever case."""
    wanted = [_wanted(word, fields) for word in words.lower().split()]
    if not wanted:
        return list(views)
    return [view for view in views if all(_has(view, part, where) for part, where in wanted)]


def grouped(views: Sequence[View], field: str) -> list[View]:
    """The same, each group under a line with its name and number; groups in alphabetical order, statuses in their own."""
    if not field:
        return list(views)
    groups: dict[str, list[View]] = {}
    for view in views:
        groups.setdefault(str(view[field]), []).append(view)
    order = sorted(groups, key=lambda name: (RANKS.get(name, -1) if field == "status" else 0, name))
    rows: list[View] = []
    for name in order:
        rows.append(heading(f"{clean(name) or 'none'} ({len(groups[name])})", key=name))
        rows.extend(groups[name])
    return rows


def heading(text: str, key: str = "") -> View:
    """A line between rows, as widgets/table.py takes it."""
    return {"id": f"heading {key or text}", "heading": text}


def _wanted(word: str, fields: Sequence[str]) -> tuple[str, Sequence[str]]:
    field, colon, rest = word.partition(":")
    return (rest, (field,)) if colon and field in fields else (word, fields)


def _has(view: View, word: str, fields: Sequence[str]) -> bool:
    if any(word in str(view[field]).lower() for field in fields):
        return True
    return "id" in fields and short_id(view["id"]).startswith(word)


def told(shown: int, known: int, wish: Wish, noun: str) -> str:
    """The line below a list: how many of how many, and why not all or not in the usual order."""
    count = f"{shown} of {known} {noun}" if wish.words else f"{known} {noun}"
    parts = [count if known != 1 else count.removesuffix("s")]
    if wish.words:
        parts.append(f"filter '{clean(wish.words)}' (Esc clears)")
    if wish.group:
        parts.append(f"by {wish.group}")
    return " · ".join(parts)
