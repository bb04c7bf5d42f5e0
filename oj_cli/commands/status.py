"""`oj status`: what is going on, by project.

Rule: a question that has an answer even when no daemon runs, so it never fails for that.
"""

from __future__ import annotations

import os

import click

from oj_cli import interrupt, output
from oj_cli.context import Ctx, pass_ctx
from oj_cli.diagnostics import ExitCode
from oj_cli.watch import TRANSIENT, pause
from oj_daemon.errors import WireError
from oj_daemon.wire.format import elapsed, parse_duration, uptime
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import cut, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from oj_cli.output import Text

    Line = list[Text]

RULE_WIDTH = 48
"""Columns of the line above each project."""
REASON_WIDTH = 72
LEAST_SECONDS = 0.2
"""Between two showings, however much happens."""
HOME = "\x1b[H"
ERASE_LINE = "\x1b[K"
ERASE_BELOW = "\x1b[J"
CLEAR = "\x1b[2J"
NOT_RUNNING = "oj daemon: not running"
PARTS = (
    ("active_jobs", "Jobs", " active", "active job"),
    ("escalated_jobs", "Escalated", "", "escalated"),
    ("suspended_jobs", "Suspended", "", "suspended"),
    ("recent_failures", "Recent failures", "", "recent failure"),
)
"""Field of ProjectStatus, its heading, what follows the number there, its word in the header."""


@click.command()
@click.option(
    "--watch", is_flag=True, help="Show again whenever something has changed, until Ctrl-C."
)
@click.option(
    "--interval",
    metavar="DURATION",
    default="5s",
    help="With --watch: the longest time between two showings (default 5s).",
)
@pass_ctx
def status(ctx: Ctx, watch: bool, interval: str) -> None:
    """Show what is going on, by project."""
    seconds = parse_duration(interval)
    if not watch:
        _print(ctx, _ask(ctx), every="")
        return
    with interrupt.exits(ExitCode.OK):
        if output.is_tty():
            output.write(CLEAR)
        for overview in _overviews(ctx, seconds):
            _print(ctx, overview, every=interval)
            pause(LEAST_SECONDS)
            output.measure()


def _overviews(ctx: Ctx, seconds: float) -> Iterator[dict[str, Any] | None]:
    """The overview, again when it has changed and when it has grown old; None while no daemon runs."""
    heard: dict[str, int] = {}
    with ctx.client() as client:
        while True:
            try:
                news = client.call(
                    "Watch",
                    nouns=["overview"],
                    project=ctx.project_filter,
                    wait_ms=int(seconds * 1000),
                    **heard,
                )
            except WireError as failure:
                client.close()
                heard = {}
                if failure.code not in TRANSIENT or ctx.settings.daemon_url is not None:
                    raise
                yield None
                pause(seconds)
                continue
            # Unchanged, but all that it says of ages and durations is old: the next question asks for it as a whole.
            heard = {"since": news["seq"], "epoch": news["epoch"]} if news["overview"] else {}
            if news["overview"]:
                yield news["overview"]


def _ask(ctx: Ctx) -> dict[str, Any] | None:
    """The Overview; None when no daemon runs."""
    try:
        return ctx.query("StatusOverview", project=ctx.project_filter)
    except WireError as failure:
        # Whether one runs on another machine is not known when it cannot be reached.
        if failure.code != "unavailable" or ctx.settings.daemon_url is not None:
            raise
        return None


def _print(ctx: Ctx, overview: dict[str, Any] | None, *, every: str) -> None:
    if ctx.json:
        shape = {"status": "not_running"} if overview is None else output.untagged(overview)
        (output.json_line if every else output.json)(shape)
        return
    lines = _without_daemon(ctx) if overview is None else _lines(overview, every=every)
    if not (every and output.is_tty()):
        output.lines(lines)
        return
    # Drawn over the last picture and not after clearing it: a cleared screen would flicker.
    shown = "".join(f"{output.render(*line)}{ERASE_LINE}\n" for line in lines)
    output.write(f"{HOME}{shown}{ERASE_BELOW}")


def _without_daemon(ctx: Ctx) -> list[Line]:
    lines: list[Line] = [[NOT_RUNNING]]
    try:
        names = os.listdir(f"{ctx.settings.state_folder}/runs")  # noqa: PTH208 - without pathlib
    except OSError:
        names = []
    if any(name.startswith("job-") for name in names):
        from oj_cli.commands.daemon import going_on  # noqa: PLC0415 - only where steps may run
        from oj_cli.commands.doctor import step_processes  # noqa: PLC0415 - looks at every process

        left = step_processes(ctx.settings.state_folder)
        if left:
            lines.append([going_on(len(left))])
    return lines


def _lines(overview: dict[str, Any], *, every: str) -> list[Line]:
    projects = sorted(overview["projects"], key=lambda entry: str(entry["project"]))
    header: list[Text] = [
        "oj daemon: ",
        output.status("running"),
        f" {uptime(overview['uptime_secs'])}",
    ]
    if every:
        header.append(f" | every {every}")
    for field, _, _, word in PARTS:
        count = sum(len(entry[field]) for entry in projects)
        if count:
            plural = "s" if count != 1 and word.endswith(("job", "failure")) else ""
            header.append(f" | {count} {word}{plural}")
    pending = sum(entry.get("decisions_pending", 0) for entry in projects)
    if pending:
        header.append(f" | {pending} decision{'s' if pending != 1 else ''} pending")
    lines: list[Line] = [header]
    lines.extend([output.Span(f"warning: {text}", output.YELLOW)] for text in overview["warnings"])
    shown = [
        entry
        for entry in projects
        if entry.get("agents") or any(entry[field] for field, *_ in PARTS)
    ]
    for entry in shown:
        lines.extend(
            [[], [output.header(f"── {one_line(entry['project'])} ".ljust(RULE_WIDTH, "─"))]]
        )
        for field, heading, suffix, _ in PARTS:
            if entry[field]:
                lines.append([output.header(f"  {heading} ({len(entry[field])}{suffix}):")])
                lines.extend(_section(field, entry[field]))
        lines.extend(_agents(entry.get("agents", ())))
    if not shown:
        lines.append([output.muted("No jobs are active; 'oj run' lists what can be run here.")])
    return lines


def _section(field: str, jobs: list[dict[str, Any]]) -> list[Line]:
    """The rows of one section; below those that wait or failed, why."""
    mark = "⚠ " if field == "escalated_jobs" else ""
    rows: list[list[Text]] = [
        [
            f"{mark}{short_id(job['id'])}" if mark else output.literal(short_id(job["id"])),
            _name(job),
            f"{job['kind']}/{job['step']}" if job["step"] not in ("", job["kind"]) else job["kind"],
            output.status(job["step_status"]),
            *([f"[{job['escalate_source']}]" if job["escalate_source"] else ""] if mark else []),
            elapsed(job["elapsed_ms"]),
        ]
        for job in jobs
    ]
    if not any(output.plain(row[1]) for row in rows):
        rows = [[row[0], *row[2:]] for row in rows]
    lines: list[Line] = []
    for job, row in zip(jobs, output.columns(rows, indent=4), strict=True):
        lines.append(row)
        reason = job["waiting_reason"].strip().partition("\n")[0]
        # What runs needs no reason; what waits or is being ended does.
        if reason and (field != "active_jobs" or job["step_status"] != "running"):
            lines.append([output.context(f"      → {cut(one_line(reason), REASON_WIDTH)}")])
    return lines


def _agents(agents: Sequence[dict[str, Any]]) -> list[Line]:
    """Stand-alone agents at work."""
    rows: list[list[Text]] = [
        [
            output.literal(short_id(agent["id"])),
            agent["name"],
            output.status(agent["status"]),
            elapsed(agent["elapsed_ms"]),
        ]
        for agent in agents
    ]
    heading: Line = [output.header(f"  Agents ({len(rows)} running):")]
    return [heading, *output.columns(rows, indent=4)] if rows else []


def _name(job: dict[str, Any]) -> str:
    """The name, unless another column says the same."""
    name = str(job["name"])
    return "" if name in (job["kind"], job["id"], short_id(job["id"])) else name
