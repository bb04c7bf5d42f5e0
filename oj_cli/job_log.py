"""The log of a job: its last lines, and what is added to it.

Rule: the daemon is asked, never the file system, so it works the same from far away; reading goes on at the byte offset
that the first answer named, so no line is lost and none is shown twice.
"""

from __future__ import annotations

import re

from oj_cli import diagnostics, output
from oj_cli.logs import lines_of
from oj_cli.watch import POLL_MS, Watch, insist, tell_lost
from oj_daemon.wire.names import TERMINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oj_cli.context import Ctx
    from oj_daemon.wire.client import Client

STAMP = re.compile(r"\S+Z \[([^\]]+)\]")
"""Begins a line of a step; lines without it belong to the one before."""


def show(ctx: Ctx, job_id: str, *, limit: int, step: str | None) -> None:
    """Print the last lines."""
    is_empty = True
    lines: list[str] = []
    rest = ""
    with ctx.connected() as client:
        log = client.call("JobLogs", id=job_id, lines=limit or None, step=step)
        while True:
            text, rest = rest + log["content"], ""
            if log.get("has_more"):  # a piece may end within a line
                text, newline, rest = text.rpartition("\n")
                text += newline
            is_empty = is_empty and not text
            if ctx.json:
                lines += lines_of(text)
            else:
                output.block(text)
            if not log.get("has_more"):
                break
            log = client.call("JobLogs", id=job_id, offset=log["offset"], lines=None, step=step)
    if ctx.json:
        output.json({"log_path": log["log_path"], "lines": lines})
    elif is_empty:
        diagnostics.say(f"No log entries found for job {job_id}{f', step {step}' if step else ''}")


def follow(ctx: Ctx, job_id: str, *, limit: int, step: str | None) -> None:
    """Print the last lines and then what is added, until the job has ended."""

    def ask(client: Client) -> tuple[dict[str, Any], dict[str, Any]]:
        job = client.call("JobShow", id=job_id)
        return job, client.call("JobLogs", id=job["id"], lines=limit or None, step=step)

    job, log = insist(ctx, ask, on_lost=tell_lost)
    if not log["content"]:
        diagnostics.say(f"No log entries found for job {job_id} yet")
    printer = _Printer(step)
    printer.take(log["content"], is_chosen=True)
    _follow(ctx, job["id"], log["offset"], printer)


def _follow(ctx: Ctx, job_id: str, offset: int, printer: _Printer) -> None:
    with Watch(ctx, [job_id], logs={job_id: offset}, on_lost=tell_lost) as watch:
        has_ended = False
        while True:
            reply = watch.poll(0 if has_ended else POLL_MS)
            chunk = reply["logs"].get(job_id)
            if chunk is not None:
                if chunk["restarted"]:
                    diagnostics.warn(
                        "the log was cut short meanwhile; reading on from its beginning"
                    )
                    printer.restart()
                printer.take(chunk["content"])
            is_read = chunk is None or not chunk["content"]
            if reply["missing"] or (has_ended and is_read):
                printer.finish()
                return
            for job in reply["details"]:
                has_ended = job["status"] in TERMINAL


class _Printer:
    """Prints whole lines, of one step if that was asked for; the beginning of a line waits for its end."""

    def __init__(self, step: str | None) -> None:
        self._step = step
        self._rest = ""
        self._is_wanted = step is None

    def take(self, text: str, *, is_chosen: bool = False) -> None:
        """Print what is complete now; `is_chosen` when the daemon has picked the lines already."""
        *whole, self._rest = (self._rest + text).split("\n")
        wanted = [line for line in whole if is_chosen or self._wants(line)]
        if wanted:
            output.block("\n".join(wanted) + "\n")

    def restart(self) -> None:
        """Forget the beginning of a line whose end will never come."""
        self._rest = ""

    def finish(self) -> None:
        """Print a last line that has no end."""
        if self._rest:
            self.take("\n")

    def _wants(self, line: str) -> bool:
        stamp = STAMP.match(line)
        if stamp is not None and self._step is not None:
            # From its second run on, a step is named `step#2` in the log.
            self._is_wanted = stamp[1].partition("#")[0] == self._step
        return self._is_wanted
