"""One job in full -> lines and cells.

Rule: pure, as oj_tui/render.py is, whose words and styles these are. How its steps stand is decided by oj_daemon.wire.picture,
as for `oj run`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Final

from oj_daemon.wire import picture
from oj_daemon.wire.format import moment, since
from oj_daemon.wire.names import ENDED_AGENTS, short_id
from oj_daemon.wire.text import visible
from oj_tui.render import Line, Piece, clean, status
from oj_tui.store import View
from oj_tui.widgets.log_text import wrapped

Row = tuple[str, Line]
"""Key, and pieces."""
LOG_LINE: Final = re.compile(r"(\S+Z) \[([^\]]*)\] ?")
"""How a line of a job's log begins: its time and its step."""
SHOWN_LINE: Final = re.compile(r"(\d\d:\d\d:\d\d )([^ ]+ )")
SCOPES: Final = ("var", "local", "source", "invoke", "args")
LONGEST_DATA: Final = 2_000
GONE: Final = "This job is no more: it was pruned. Shown is what was known of it."


def title_of(job: View) -> str:
    """What to call a job in a sentence."""
    return f"{clean(picture.title_of(job))} ({short_id(job['id'])})"


# Headline


def headline(job: View, now: int, *, is_gone: bool = False) -> list[Row]:
    """What stands above all panes: which job, how it is and why, where it works and what that waits for."""
    now = max(now, int(job["updated_at_ms"]))
    end = job.get("finished_at_ms") or now
    kind = "" if picture.title_of(job) == job["kind"] else f" · {clean(job['kind'])}"
    tries = f" · {job['retries']} retries" if job["retries"] else ""
    lines: list[Line] = [
        [
            (clean(picture.title_of(job)), "title"),
            (f"  {short_id(job['id'])}  ", "muted"),
            status(str(job["status"])),
            (f"  {picture.duration(end - job['created_at_ms'])}", "muted"),
            (f"  {clean(job['project'])}{kind}{tries}", "muted"),
        ]
    ]
    why = str(job["reason"] or job.get("error") or "")
    if why:
        lines.append(
            [("Why:    ", "muted"), (clean(why), "bad" if job["status"] == "failed" else "")]
        )
    lines.extend(_place(job))
    if is_gone:
        lines.append([(GONE, "warn")])
    return [("", line) for line in lines]


def _place(job: View) -> list[Line]:
    """Where it works, and what that place waits for."""
    workspace = job.get("workspace")
    if not workspace:
        where = job.get("workspace_path") or job.get("cwd") or ""
        return [[("Place:  ", "muted"), (clean(where), "")]] if where else []
    place = f"pod {clean(workspace['place'])}" if workspace["place"] else clean(workspace["path"])
    notes = [str(workspace["kind"])]
    if workspace["branch"]:
        notes.append(f"branch {clean(workspace['branch'])}")
    lines: list[Line] = [
        [
            ("Place:  ", "muted"),
            (f"{place}  ", ""),
            status(str(workspace["status"])),
            (f"  {', '.join(notes)}", "muted"),
        ]
    ]
    # The job's own reason tells the same words while nothing else is to be told.
    waits = str(workspace["waits_for"] or workspace["reason"])
    if waits and waits not in str(job["reason"]):
        lines.append([("Waits:  ", "muted"), (clean(waits), "warn")])
    return lines


# Steps


def steps(job: View, now: int, width: int) -> list[Row]:
    """Every step with its time, those that run side by side held together; below them the error, in full."""
    now = max(now, int(job["updated_at_ms"]))
    screen = picture.Screen(width, 10_000, now, frame=now // 1000)
    made: list[Row] = [
        (name, [(clean(text), style) for text, style in row])
        for name, row in picture.steps(job, screen)
    ]
    error = str(job.get("error") or "")
    if "\n" in error.strip() or len(error) > max(20, width - 8):
        made.append(("", []))
        made.extend(("", [(line, "bad")]) for line in _broken(error, width))
    return made or [("", [("No steps yet.", "muted")])]


def agent_of_step(job: View, name: str) -> View | None:
    """The newest session of a step."""
    mine = [agent for agent in job["agents"] if agent["step"] == name]
    return mine[-1] if mine else None


def newest_live_agent(job: View) -> View | None:
    """The session that one would enter."""
    live = [agent for agent in job["agents"] if agent["status"] not in ENDED_AGENTS]
    return live[-1] if live else None


def has_agent_step(job: View) -> bool:
    """There is somebody to tell something."""
    return any(node["kind"] == "agent" for node in job["graph"])


# Log


def reader(step: str = "") -> Callable[[str], str | None]:
    """How lines of the log are read: shortened to what tells them apart, and only those of a step if one is named."""

    def read(line: str) -> str | None:
        match = LOG_LINE.match(line)
        if match is None:
            return None if step else line
        # From its second run on a step is called `name#2` there.
        if step and match[2].partition("#")[0] != step:
            return None
        return f"{_time_of_day(match[1])} {match[2]} {line[match.end() :]}"

    return read


@lru_cache(maxsize=64)
def _time_of_day(stamp: str) -> str:
    try:
        at = datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return stamp
    return moment(int(at * 1000))[11:]


def log_line(line: str) -> Line:
    """The pieces of such a line."""
    match = SHOWN_LINE.match(line)
    if match is None:
        return [(line, "muted" if line.startswith("-- ") else "")]
    is_about = match[2] == "job "
    return [
        (match[1], "muted"),
        (match[2], "busy"),
        (line[match.end() :], "title" if is_about else ""),
    ]


# Story


def story_row(line: View) -> list[Piece]:
    """A fact: its number, when, what, what caused it, and what it says besides whose it is."""
    says = [
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in line["data"].items()
        if value and name not in ("job_id", "at")
    ]
    return [
        (str(line["seq"]), "muted"),
        (moment(line["at_ms"]), "muted"),
        (clean(line["fact"]), "name"),
        (clean(line["cause"]), "muted"),
        (clean("  ".join(says)[:LONGEST_DATA]), ""),
    ]


def fact(line: View, width: int) -> list[Row]:
    """A fact in full."""
    about = f"{clean(line['fact'])}  record {line['seq']}  {moment(line['at_ms'])}"
    data = json.dumps(line["data"], ensure_ascii=False, indent=2).replace("\\n", "\n    ")
    return [
        ("", [(about, "title")]),
        ("", [(f"because of {clean(line['cause'])}" if line["cause"] else "", "muted")]),
        ("", []),
        *(("", [(each, "")]) for each in _broken(data, max(20, width))),
    ]


# Variables


def variables(values: dict[str, str], width: int) -> list[Row]:
    """Names and values in full, in the order of their scopes."""
    made: list[Row] = []
    for name in sorted(values, key=_scope_order):
        made.append(("", [(clean(name), "name")]))
        made.extend(("", [(f"  {line}", "")]) for line in _broken(values[name], width - 2))
    return made or [("", [("No variables.", "muted")])]


def _scope_order(name: str) -> tuple[int, str]:
    scope = name.partition(".")[0]
    return (SCOPES.index(scope) if scope in SCOPES else len(SCOPES), name)


def _broken(text: str, width: int) -> list[str]:
    """Text as harmless lines that fit."""
    lines = [visible(line.expandtabs()) for line in text.rstrip("\n").split("\n")]
    return [line[start:end] for line in lines for start, end in wrapped(line, width)]


# Agents and decisions


def agent_row(agent: View, now: int) -> list[Piece]:
    """A session of the job: id, name, step, status, age, what it does or waits for."""
    word = str(agent["status"])
    says = agent["exit_reason"] or agent["detail"] or agent["last_message"] or agent["state"]
    return [
        (short_id(agent["id"]), "muted"),
        (clean(agent["name"]), "name"),
        (clean(agent["step"]), ""),
        status(word),
        (since(agent["created_at_ms"], now), "muted"),
        (clean(says), "muted"),
    ]


def decision_row(decision: View, now: int) -> list[Piece]:
    """What a human is asked: id, step, why, age, gist."""
    return [
        (short_id(decision["id"]), "muted"),
        (clean(decision["step"]), ""),
        (clean(decision["source"]), "warn"),
        (since(decision["created_at_ms"], now), "muted"),
        (clean(decision["summary"]), ""),
    ]


def ended_words(reply: View, done: str) -> str:
    """What came of a cancel or a suspend; `done` is the word for it."""
    if reply[done]:
        return f"{done}: {', '.join(map(short_id, reply[done]))}"
    if reply["already_terminal"]:
        return "it had ended already"
    return "the daemon does not know it any more"
