"""The daemon and its places -> lines and cells.

Rule: pure, as oj_tui/render.py is, whose words and styles these are.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Final

from oj_daemon.wire.format import since
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import width as columns_of
from oj_tui.render import Line, Piece, clean, status
from oj_tui.store import View, owner_of
from oj_tui.widgets.log_text import wrapped

Row = tuple[str, Line]
"""Key, and pieces."""
LABEL: Final = 15
"""Columns of the names of facts."""
LEVELS: Final = {"CRITICAL": "bad", "ERROR": "bad", "WARNING": "warn", "INFO": "", "DEBUG": "muted"}
LOG_LINE: Final = re.compile(r"(\S+Z )(DEBUG|INFO|WARNING|ERROR|CRITICAL) ([\w.]+: )")
OBJECT_LEVEL: Final = re.compile(r'"(?:level|severity)": ?"(\w+)"')


# Health


def health(info: View | None, width: int, *, trouble: str = "") -> list[Row]:
    """How the daemon is and why it is set up like this; `trouble`: why it could not be asked just now."""
    lines: list[Line] = []
    if trouble:
        lines.extend(_fact("Trouble", trouble, width, "bad"))
    if info is None:
        return [("", line) for line in lines or [[("asking the daemon ...", "muted")]]]
    lines.append([(f"{'Status':<{LABEL}}", "muted"), status(str(info["status"]))])
    lines.extend(_fact("Version", info["version"], width))
    if not info["state_dir"]:
        words = "This token may not know more: it is not for the daemon itself."
        return [("", line) for line in [*lines, [], [(words, "muted")]]]
    lines.extend(_ready(info, width))
    lines.extend(_fact("Uptime", info["uptime"], width))
    lines.extend(_fact("Jobs", f"{info['jobs_active']} active", width))
    lines.extend(_fact("Profile", info["profile"], width))
    lines.extend(_fact("PID", info["pid"], width))
    lines.extend(_fact("State", info["state_dir"], width))
    lines.extend(_fact("Record", f"{info['seq']} of epoch {info['epoch']}", width))
    if info["address"]:
        lines.extend(_fact("Address", info["address"], width))
    if info["tls_fingerprint"]:
        lines.extend(_fact("Fingerprint", info["tls_fingerprint"], width))
    if info["notifications_waiting"]:
        words = f"{info['notifications_waiting']} waiting: nobody could be told yet"
        lines.extend(_fact("Notifications", words, width, "warn"))
    for warning in info["warnings"]:
        lines.extend(_fact("Warning", warning, width, "warn"))
    lines.extend(_settings(info, width))
    return [("", line) for line in lines]


def _ready(info: View, width: int) -> list[Line]:
    if info["ready"]:
        return [[(f"{'Ready':<{LABEL}}", "muted"), ("✓ yes", "good")]]
    lines: list[Line] = [[(f"{'Ready':<{LABEL}}", "muted"), ("✗ no", "bad")]]
    for reason in info["waits_for"]:
        lines.extend(_fact("  waits for", reason, width, "warn"))
    return lines


def _settings(info: View, width: int) -> list[Line]:
    if not info["settings"]:
        return []
    lines: list[Line] = [[], [("Settings", "title")]]
    label = max(columns_of(clean(choice["name"])) for choice in info["settings"]) + 2
    for choice in info["settings"]:
        name, value = f"{clean(choice['name']):<{label}}", clean(choice["value"])
        because = f"because {clean(choice['reason'])}"
        if label + columns_of(value) + 2 + columns_of(because) <= width:
            lines.append([(name, "muted"), (f"{value}  ", ""), (because, "muted")])
        else:
            lines.extend(_broken(value, name, width, ""))
            lines.extend(_broken(because, " " * label, width, "muted"))
    return lines


def _fact(name: str, value: object, width: int, style: str = "") -> list[Line]:
    """A name and what is so, in as many lines as it takes."""
    return _broken(clean(value), f"{name:<{LABEL}}", width, style)


def _broken(text: str, label: str, width: int, style: str) -> list[Line]:
    room = max(20, width - columns_of(label))
    # Between words where that works out; characters that are two columns wide make a line too long for that.
    pieces = [
        line[start:end]
        for line in textwrap.wrap(text, room) or [""]
        for start, end in wrapped(line, room)
    ]
    return [
        [(label if not at else " " * columns_of(label), "muted"), (piece, style)]
        for at, piece in enumerate(pieces)
    ]


# Places


def place_row(workspace: View, jobs: Mapping[str, View], now: int) -> list[Piece]:
    """Where a job works: pod or folder, status, whose it is, age, what it waits for or why it is as it is."""
    # Folders lie side by side: what tells them apart is the end. The job says all of it.
    folder = str(workspace["path"]).rstrip("/").rpartition("/")[2]
    where = f"pod {workspace['place']}" if workspace["place"] else folder
    job_id = owner_of(workspace)
    job = jobs.get(job_id)
    name = short_id(job_id) if job is None or job["name"] == job_id else str(job["name"])
    why = workspace["waits_for"] or workspace["reason"]
    return [
        (clean(where), "name"),
        (str(workspace["kind"]), "muted"),
        status(str(workspace["status"])),
        (clean(name), ""),
        status(str(workspace["owner_status"])) if workspace["owner_status"] else ("-", "muted"),
        (clean(workspace["project"]), "muted"),
        (since(workspace["created_at_ms"], now), "muted"),
        (clean(why), "warn" if workspace["waits_for"] else "muted"),
    ]


def place_order(workspace: View) -> tuple[bool, int]:
    """What waits for something first, then the newest."""
    return not workspace["waits_for"], -int(workspace["created_at_ms"])


# Log


def log_line(line: str) -> Line:
    """The pieces of a line of the daemon's log, as text or as JSON."""
    match = LOG_LINE.match(line)
    if match is not None:
        level = LEVELS[match[2]]
        return [
            (match[1], "muted"),
            (f"{match[2]} ", level or "muted"),
            (match[3], "muted"),
            (line[match.end() :], level),
        ]
    named = OBJECT_LEVEL.search(line)
    style = LEVELS.get(named[1].upper(), "") if named is not None else ""
    return [(line, style or ("muted" if line.startswith("-- ") else ""))]
