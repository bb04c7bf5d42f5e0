"""Views -> what stands in cells and lines.

Rule: pure. No clock, no widget: the moment is an argument. Text of others is made harmless here (oj_daemon/wire/text.py), and
every status is told by a sign and a word, never by a colour alone.
"""

from __future__ import annotations

from typing import Final

from oj_daemon.wire import picture
from oj_daemon.wire.format import since
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import one_line, visible
from oj_tui.store import View

Piece = tuple[str, str]
"""Text, and the name of its style: a key of picture.STYLES."""
Line = list[Piece]

STYLE_OF: Final = {
    **picture.STYLE_OF,
    "open": "warn",
    "dismissed": "muted",
    "starting": "busy",
    "queued": "muted",
    "gone": "bad",
    "ready": "good",
    "creating": "busy",
    "deleting": "warn",
    "kept": "warn",
}
"""Style of a status word."""


def clean(text: object) -> str:
    """Text of others as one harmless line."""
    return visible(one_line(str(text)))


def status(word: str) -> Piece:
    """A status: its sign and its word."""
    mark = picture.MARKS.get(word, "•") or "●"
    return f"{mark} {word}", STYLE_OF.get(word, "")


def job_row(job: View, now: int) -> list[Piece]:
    """A row of the list of jobs: id, name, project, step, status, retries, age, reason."""
    name = job["kind"] if job["name"] == job["id"] else job["name"]
    word = str(job["status"])
    return [
        (short_id(job["id"]), "muted"),
        (clean(name), "name"),
        (clean(job["project"]), "muted"),
        (clean(job["step"]), ""),
        status(word),
        (str(job["retries"] or ""), "warn"),
        (since(job["updated_at_ms"], now), "muted"),
        (clean(job["reason"]), "bad" if word == "failed" else "muted"),
    ]
