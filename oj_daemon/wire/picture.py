"""What a job looks like while it runs: rows of styled text for a given width, height and moment.

Rule: pure. No terminal, no clock, no rich: front ends ask for rows and put them on their screens, so `oj run` and `oj tui`
draw a job alike.

Steps stand in levels, one below the other; steps of one level that may run side by side are held together by a bracket.
Steps that only a failure or a cancel leads to appear once they were entered.
"""

from __future__ import annotations

from typing import Any, Final

from oj_daemon.wire import format  # noqa: A004 - the module of that name
from oj_daemon.wire.names import short_id

Row = list[tuple[str, str]]
"""Pieces of one line, each with the name of its style (a key of STYLES)."""
Job = dict[str, Any]
"""A JobDetail as it came over the wire."""

SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
MARKS: Final = {
    "completed": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "suspended": "‖",
    "waiting": "?",
    "pending": "·",
    "running": "",
}
PLAIN_SPINNER: Final = "|/-\\"
PLAIN_MARKS: Final = {
    "completed": "+",
    "failed": "x",
    "cancelled": "-",
    "suspended": "=",
    "waiting": "?",
    "pending": ".",
    "running": "",
}
STYLE_OF: Final = {
    "completed": "good",
    "failed": "bad",
    "cancelled": "bad",
    "suspended": "warn",
    "waiting": "warn",
    "pending": "muted",
    "running": "busy",
    "ending": "warn",
}
STYLES: Final = {
    "title": "bold",
    "name": "",
    "": "",
    "muted": "bright_black",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "busy": "cyan",
    "output": "dim",
}
"""Names of styles in the words of rich."""
TAIL: Final = 5
"""Lines of output shown below a running step, where there is room."""
LONGEST: Final = 500
"""Characters of one line that are kept for display: no terminal is wider."""


def duration(ms: float) -> str:
    """`1.5s` below ten seconds, where tenths are worth showing; else as everywhere."""
    return f"{max(0.0, ms) / 1000:.1f}s" if ms < 9950 else format.duration(int(ms))


def latest_runs(job: Job) -> dict[str, Job]:
    """The newest run of each step that was entered, in order of first entry."""
    runs: dict[str, Job] = {}
    for run in job.get("steps", ()):
        runs[run["name"]] = run
    return runs


def levels(job: Job) -> list[list[str]]:
    """The names of the steps to show, those of one level together."""
    graph: dict[str, Job] = {node["name"]: node for node in job.get("graph", ())}
    depth = _main_path(graph)
    last = ""
    for name in latest_runs(job):
        # Any other step that was entered stands below the one that led to it.
        depth.setdefault(name, depth.get(last, -1) + 1)
        last = name
    table: dict[int, list[str]] = {}
    for name in [*graph, *(name for name in depth if name not in graph)]:
        if name in depth:
            table.setdefault(depth[name], []).append(name)
    return [table[level] for level in sorted(table)]


def _main_path(graph: dict[str, Job]) -> dict[str, int]:
    """Steps that run when nothing fails, each with its longest distance from the first; loops are cut."""
    below: dict[str, list[str]] = {name: [] for name in graph}
    for name, node in graph.items():
        below[name].extend(target for target in node["on_done"] if target in graph)
        for above in node["after"]:
            below.setdefault(above, []).append(name)
    finished: list[str] = []
    forward: list[tuple[str, str]] = []
    state: dict[str, str] = {}
    stack = [(name, False) for name in list(graph)[:1]]
    while stack:
        name, is_left = stack.pop()
        if is_left:
            state[name] = "left"
            finished.append(name)
        elif name not in state:
            state[name] = "open"
            stack.append((name, True))
            for target in below[name]:
                if state.get(target) != "open":
                    forward.append((name, target))
                    stack.append((target, False))
    depth = dict.fromkeys(finished, 0)
    place = {name: index for index, name in enumerate(reversed(finished))}
    for name, target in sorted(forward, key=lambda edge: place[edge[0]]):
        if place[name] < place[target]:
            depth[target] = max(depth[target], depth[name] + 1)
    return depth


class Screen:
    """How much room there is, what time it is there, and which characters may be used."""

    def __init__(
        self, width: int, height: int, now_ms: int, *, unicode: bool = True, frame: int = 0
    ) -> None:
        self.width = width
        self.height = height
        self.now_ms = now_ms
        self.names = width // 2
        """Columns for names of steps."""
        self.marks = MARKS if unicode else PLAIN_MARKS
        self.spinner = SPINNER if unicode else PLAIN_SPINNER
        self.unicode = unicode
        self.frame = frame

    def mark(self, status: str) -> str:
        """The sign of a status; a turning one for what runs."""
        return self.marks.get(status, "?") or self.spinner[self.frame % len(self.spinner)]


def rows(job: Job, tails: dict[str, list[str]], screen: Screen) -> list[Row]:
    """The whole view of a job that goes on, at most `screen.height` rows."""
    runs = latest_runs(job)
    asked = questions(job)[: max(screen.height - 4, 0)]
    room = max(screen.height - 2 - len(asked), 1)
    lines = _fold(steps(job, screen), runs, room, screen)
    busy = [name for name, _ in lines if name in runs and is_active(runs[name])]
    per_step = min(TAIL, (room - len(lines)) // len(busy)) if busy else 0
    out: list[Row] = [headline(job, screen)]
    for name, row in lines:
        out.append(row)
        if name in busy and per_step > 0:
            out.extend(
                [("    ", "muted"), (line[:LONGEST], "output")]
                for line in tails.get(name, [])[-per_step:]
            )
    out.extend(asked)
    out.append([("Ctrl-C detaches; the job goes on", "muted")])
    return out[: max(screen.height, 1)]


def questions(job: Job) -> list[Row]:
    """What the job waits for a person for, and what to type."""
    return [
        [
            (f"oj decision show {short_id(decision['id'])}", "warn"),
            (f"  {' '.join(str(decision['summary']).split())[:LONGEST]}", ""),
        ]
        for decision in job.get("decisions", ())
    ]


def summary(job: Job, screen: Screen) -> list[Row]:
    """All steps of a job that has ended, without the reason and the hints."""
    return [row for _, row in steps(job, screen)]


def steps(job: Job, screen: Screen) -> list[tuple[str, Row]]:
    """Every step to show, in the order of its level: its name and its row."""
    runs = latest_runs(job)
    graph = {node["name"]: node for node in job.get("graph", ())}
    table = levels(job)
    longest = max((len(name) for names in table for name in names), default=0)
    screen.names = max(4, min(longest, screen.width // 2 - 4))
    made: list[tuple[str, Row]] = []
    for names in table:
        for index, name in enumerate(names):
            bracket = _bracket(index, len(names), screen)
            made.append(
                (
                    name,
                    [(bracket, "muted"), *step_row(name, runs.get(name), graph.get(name), screen)],
                )
            )
    return made


def headline(job: Job, screen: Screen) -> Row:
    """Name, id, status and age."""
    status = str(job["status"])
    end = job.get("finished_at_ms") or screen.now_ms
    return [
        (title_of(job), "title"),
        (f"  {short_id(job['id'])}  ", "muted"),
        (status, STYLE_OF.get(status, "muted")),
        (f"  {duration(end - job['created_at_ms'])}", "muted"),
    ]


def title_of(job: Job) -> str:
    """The job's name; its kind when it was given none and is called by its id."""
    return str(job["kind"] if job["name"] == job["id"] else job["name"])


def is_active(run: Job) -> bool:
    """True while a run of a step has not ended."""
    return run["status"] in ("running", "waiting", "pending")


def step_row(name: str, run: Job | None, node: Job | None, screen: Screen) -> Row:
    """One step: sign, name, duration, and what there is to say about it."""
    if run is None:
        after = ", ".join(node["after"]) if node else ""
        return _line("pending", name, "", f"after {after}" if after else "", screen)
    status = str(run["status"])
    started = run["started_at_ms"]
    ended = run["finished_at_ms"]
    time = duration((ended or screen.now_ms) - started) if started else ""
    notes = []
    if run["attempt"] > 1:
        notes.append(f"try {run['attempt']}")
    if run["visit"] > 1:
        notes.append(f"round {run['visit']}")
    if run["retry_at_ms"] > screen.now_ms and status != "running":
        notes.append(f"next try in {duration(run['retry_at_ms'] - screen.now_ms)}")
        time = ""
    elif not ended and run["deadline_at_ms"]:
        notes.append(f"timeout in {duration(run['deadline_at_ms'] - screen.now_ms)}")
    if run["detail"] and status not in ("completed", "pending"):
        notes.append(" ".join(str(run["detail"]).split())[:LONGEST])
    return _line(status, name, time, ", ".join(notes), screen)


def _line(status: str, name: str, time: str, note: str, screen: Screen) -> Row:
    style = STYLE_OF.get(status, "muted")
    row: Row = [
        (f"{screen.mark(status)} ", style),
        (_fit(name, screen), "muted" if status == "pending" else "name"),
    ]
    if time:
        row.append((f"  {time:>6}", "muted"))
    if note:
        row.append((f"  {note}", "bad" if status == "failed" else "muted"))
    return row


def _fit(name: str, screen: Screen) -> str:
    if len(name) <= screen.names:
        return name.ljust(screen.names)
    return name[: screen.names - 1] + ("…" if screen.unicode else "~")


def _bracket(index: int, count: int, screen: Screen) -> str:
    if count == 1:
        return "  "
    signs = "┌├└" if screen.unicode else "/|\\"
    return f"{signs[0] if index == 0 else signs[2] if index == count - 1 else signs[1]} "


def _fold(
    lines: list[tuple[str, Row]], runs: dict[str, Job], room: int, screen: Screen
) -> list[tuple[str, Row]]:
    """Take the least interesting steps out until the rest fits: done ones first, then those to come, then those that run."""
    if len(lines) <= room:
        return lines

    def kind(name: str) -> str:
        run = runs.get(name)
        if run is None:
            return "to come" if name else ""
        if run["status"] == "completed":
            return "done"
        return "running" if is_active(run) else ""

    excess = len(lines) - room
    for group in ("done", "to come", "running"):
        members = [name for name, _ in lines if kind(name) == group]
        if excess <= 0 or len(members) < 2:  # folding one line into one line gains nothing
            continue
        drop = min(len(members), excess + 1)
        gone = set(members[:drop] if group == "done" else members[-drop:])
        more = " more" if group == "running" and drop < len(members) else ""
        note: Row = [
            ("  ", "muted"),
            (f"{screen.mark('pending')} {drop}{more} steps {group}", "muted"),
        ]
        at = next(i for i, (name, _) in enumerate(lines) if name in gone)
        kept = [(name, row) for name, row in lines if name not in gone]
        place = sum(1 for name, _ in lines[:at] if name not in gone)
        lines = [*kept[:place], ("", note), *kept[place:]]
        excess = len(lines) - room
    return lines
