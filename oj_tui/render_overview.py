"""What needs a human, and what goes on in each project.

Rule: pure, as render.py. What waits longest for a human comes first in its section; sections in order of how much is held up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from oj_daemon.wire.format import HOUR, elapsed, since
from oj_daemon.wire.names import ENDED_AGENTS
from oj_tui import listing
from oj_tui.render import Piece, clean, status
from oj_tui.store import Store, View, owner_of

LATELY_MS: Final = 12 * HOUR * 1000
"""How long a failure is news."""
COUNTS: Final = ("running", "waiting", "suspended", "failed", "agents", "decisions")
COUNT_OF: Final = {
    "pending": "running",
    "running": "running",
    "ending": "running",
    "waiting": "waiting",
    "suspended": "suspended",
}
"""Status of a job -> where it is counted."""
GOES_ON: Final = frozenset({"pending", "running", "waiting", "ending"})
STYLES: Final = {
    "running": "busy",
    "waiting": "warn",
    "suspended": "warn",
    "failed": "bad",
    "agents": "busy",
    "decisions": "warn",
}


def needs(store: Store, now: int) -> list[View]:
    """Rows of what needs a human, section by section."""
    asked = store.open_decisions()
    aside = [each for each in store.decisions.values() if each["status"] == "dismissed"]
    failed = [job for job in store.jobs.values() if is_failed_lately(job, now)]
    suspended = [job for job in store.jobs.values() if job["status"] == "suspended"]
    held = {
        owner_of(each): each["waits_for"] for each in store.workspaces.values() if each["waits_for"]
    }
    waiting = [job for id_, job in store.jobs.items() if id_ in held and job["status"] in GOES_ON]
    return [
        *_section("Decisions", [_decision(each, now) for each in asked]),
        *_section("Put aside, their jobs wait", [_decision(each, now) for each in oldest(aside)]),
        *_section("Failed lately", [_job(job) for job in newest(failed)]),
        *_section("Suspended", [_job(job) for job in newest(suspended)]),
        *_section(
            "Wait for their place", [_job(job, why=held[job["id"]]) for job in newest(waiting)]
        ),
    ]


def need_row(row: View, now: int) -> list[Piece]:
    """Status, name, project, age, when it is answered by itself, and why."""
    return [
        status(row["status"]),
        (row["name"], "name"),
        (row["project"], "muted"),
        (since(row["at_ms"], now), "muted"),
        (row["due"], "warn"),
        (row["why"], "bad" if row["status"] == "failed" else ""),
    ]


def projects(store: Store, now: int) -> list[View]:
    """A row for each project: its name and its counts."""
    found: dict[str, View] = {}

    def count(project: str, what: str) -> None:
        row = found.setdefault(project, {"id": project, **dict.fromkeys(COUNTS, 0)})
        if what:
            row[what] += 1

    for job in store.jobs.values():
        what = COUNT_OF.get(job["status"], "")
        count(job["project"], "failed" if is_failed_lately(job, now) else what)
    for agent in store.agents.values():
        count(agent["project"], "" if agent["status"] in ENDED_AGENTS else "agents")
    for decision in store.decisions.values():
        count(decision["project"], "decisions" if decision["status"] == "open" else "")
    return [found[name] for name in sorted(found)]


def project_row(row: View) -> list[Piece]:
    """Its name and its counts; a point where there is nothing to count."""
    counts = [(str(row[what]), STYLES[what]) if row[what] else ("·", "muted") for what in COUNTS]
    return [(clean(row["id"]), "name"), *counts]


def is_failed_lately(job: View, now: int) -> bool:
    """It failed, and that is news."""
    return job["status"] == "failed" and now - int(job["updated_at_ms"]) <= LATELY_MS


def newest(jobs: Iterable[View]) -> list[View]:
    """In order of their last change."""
    return sorted(jobs, key=lambda job: -int(job["updated_at_ms"]))


def oldest(decisions: Iterable[View]) -> list[View]:
    """In order of their beginning."""
    return sorted(decisions, key=lambda each: int(each["created_at_ms"]))


def _section(title: str, rows: list[View]) -> list[View]:
    return [listing.heading(f"{title} ({len(rows)})", key=title), *rows] if rows else []


def _decision(decision: View, now: int) -> View:
    left = int(decision["deadline_at_ms"]) - now
    due = f"in {elapsed(left)}" if left > 0 else "now"
    return {
        "id": decision["id"],
        "status": decision["status"],
        "name": clean(decision["owner_name"]),
        "project": clean(decision["project"]),
        "at_ms": decision["created_at_ms"],
        "due": due if decision["deadline_at_ms"] else "",
        "why": f"{decision['source']}: {clean(decision['summary'])}",
    }


def _job(job: View, why: str = "") -> View:
    return {
        "id": job["id"],
        "status": job["status"],
        "name": clean(listing.name_of(job)),
        "project": clean(job["project"]),
        "at_ms": job["updated_at_ms"],
        "due": "",
        "why": clean(why or job["reason"]),
    }
