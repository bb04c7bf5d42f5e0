"""Following one job until it ends: plain lines for pipes, a live view for terminals.

Rule: the daemon is asked, never the file system, so it works the same from far away. News come by `JobWatch`, one long
poll after the other; a lost connection is looked for again, and reading goes on at the log offset that was reached, so
no line is missed or told twice. What the live view looks like is decided in `oj_cli.live`; rich is imported here alone,
and only for a terminal.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections import deque

from oj_cli import diagnostics, live, output
from oj_daemon.errors import OjError, WireError

TYPE_CHECKING = False  # as typing's own, which costs 5 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    from rich.live import Live

    from oj_cli.context import Ctx
    from oj_cli.live import Job
    from oj_daemon.wire.client import Client

LOG_LINE = re.compile(r"\S+Z \[([^\]\s]+)\] ?(.*)")
"""A line of a job's log that belongs to a step: its time, the step, the text."""
ENDED = ("completed", "failed", "cancelled", "suspended")
TRANSIENT = ("", "unavailable", "closed", "timeout")
"""Codes of a WireError after which trying again makes sense."""
FIRST_PAUSE = 0.1
"""Seconds before the first attempt to connect again; doubled each time."""
LONGEST_PAUSE = 2.0
PATIENCE = 60.0
"""Seconds after which a daemon that does not come back is given up on."""
REFRESH = 8
"""Redraws of the live view in a second."""
KEPT = 20
"""Last lines of output that are kept for each step."""


class News:
    """What one poll brought."""

    def __init__(self, job: Job | None, lines: list[str]) -> None:
        self.job = job
        self.lines = lines


class Watch:
    """Polls for news of one job, over as many connections and daemons as it takes."""

    def __init__(self, connect: Callable[[], Client], job_id: str, wait_ms: int) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._wait_ms = wait_ms
        self._since = 0
        self._offset = 0
        self._rest = ""
        self.job_id = job_id

    def news(self, lost: Callable[[str], None]) -> Iterator[News]:
        """News until the job has ended and its log is read to the end; `lost` hears of a lost daemon, once a loss."""
        is_ended = False
        while True:
            reply = self._ask(0 if is_ended else self._wait_ms, lost)
            if reply["missing"]:
                message = f"cannot follow job {self.job_id[4:12]}: the daemon does not know it any more"
                raise OjError(message, code="not_found", hint="oj job list")
            self._since = reply["seq"]
            text, restarted = "", False
            chunk = reply["logs"].get(self.job_id)
            if chunk is not None:
                text, restarted = chunk["content"], chunk["restarted"]
                self._offset = chunk["offset"]
            job = next(iter(reply["jobs"]), None)
            # What ended the job was logged before it ended, so an empty answer after the end is the end of the log.
            is_over = is_ended and not text
            is_ended = job["status"] in ENDED if job is not None else is_ended
            yield News(job, self._lines(text, restarted=restarted, is_over=is_over))
            if is_over and is_ended:
                return

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _lines(self, text: str, *, restarted: bool, is_over: bool) -> list[str]:
        """Whole lines; the beginning of one waits for its end."""
        rest = "" if restarted else self._rest
        *lines, self._rest = (rest + text).split("\n")
        if is_over and self._rest:
            lines.append(self._rest)
            self._rest = ""
        return lines

    def _ask(self, wait_ms: int, lost: Callable[[str], None]) -> dict[str, Any]:
        pause = FIRST_PAUSE
        gone_since: float | None = None
        while True:
            try:
                if self._client is None:
                    self._client = self._connect()
                return self._client.call(
                    "JobWatch",
                    ids=[self.job_id],
                    since=self._since,
                    wait_ms=wait_ms,
                    logs={self.job_id: self._offset},
                )
            except WireError as error:
                self.close()
                now = time.monotonic()
                if gone_since is None:
                    gone_since = now
                    lost(error.message)
                if now - gone_since > PATIENCE or error.code not in TRANSIENT:
                    raise
                # A new daemon counts its changes from elsewhere: ask for everything once.
                self._since = 0
                threading.Event().wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)


def follow(ctx: Ctx, job_id: str, *, wants_view: bool) -> Job | None:
    """Show a job until it ends; how it ended, or None when the user detached with Ctrl-C."""
    # A poll has to end before the client thinks that the daemon hangs.
    wait_ms = max(100, min(20_000, ctx.settings.timeout_ipc_ms // 2))
    watch = Watch(ctx.client, job_id, wait_ms)
    try:
        return _live(watch) if wants_view else _plain(watch)
    except KeyboardInterrupt:
        return None
    finally:
        watch.close()


def split_line(line: str) -> tuple[str, str]:
    """The step that a log line belongs to ("" for the job itself), and its text."""
    match = LOG_LINE.fullmatch(line)
    return (match[1], match[2]) if match else ("", line)


def outcome(job: Job) -> list[list[output.Text]]:
    """How a job ended, why, and what to do about it."""
    status = str(job["status"])
    took = live.duration(job["finished_at_ms"] - job["created_at_ms"]) if job["finished_at_ms"] else ""
    reason = " ".join((job["error"] or job["reason"] or "").split())
    made: list[list[output.Text]] = [
        [
            output.status(status),
            f" {job['name']}",
            output.muted(f" ({took})" if took else ""),
            f": {reason}" if reason and status != "completed" else "",
        ]
    ]
    short = live.short_of(job)
    if status in ("failed", "suspended"):
        if job["workspace_path"]:
            made.append([output.context("  workspace kept: "), job["workspace_path"]])
        made.append([output.context("  see the log:    "), output.literal(f"oj logs {short}")])
        made.append([output.context("  go on:          "), output.literal(f"oj resume {short}")])
    return made


def _plain(watch: Watch) -> Job:
    job: Job = {}

    def lost(message: str) -> None:
        diagnostics.warn(f"{message.rstrip('.')}; the job goes on, looking for the daemon")

    for news in watch.news(lost):
        if news.lines:
            output.block("\n".join(news.lines))
        job = news.job or job
    output.lines(outcome(job))
    return job


class _View:
    """What the live view shows; changed by the thread that polls, read by the one that draws."""

    def __init__(self) -> None:
        self.job: Job = {}
        self.tails: dict[str, list[str]] = {}
        self.notice = ""
        self._ahead_ms: float | None = None
        self._drawn = 0

    def add(self, news: News) -> None:
        """Take in what a poll brought."""
        self.notice = ""
        tails = {name: deque(lines, maxlen=KEPT) for name, lines in self.tails.items()}
        for line in news.lines:
            step, text = split_line(line)
            if step and text:
                # Cut before it is cleaned: a line of a megabyte would take as long to clean as to show.
                tails.setdefault(step, deque(maxlen=KEPT)).append(output.visible(text[: live.LONGEST].rstrip()))
        self.tails = {name: list(lines) for name, lines in tails.items()}
        if news.job is not None:
            ahead = news.job["updated_at_ms"] - time.monotonic() * 1000
            # The daemon's clock was at least there when it answered; ours may be off.
            self._ahead_ms = ahead if self._ahead_ms is None else max(self._ahead_ms, ahead)
            self.job = news.job

    def rows(self, width: int, height: int, *, unicode: bool) -> list[live.Row]:
        """The rows to draw now."""
        self._drawn += 1
        notice: list[live.Row] = [[(self.notice, "warn")]] if self.notice else []
        if not self.job:
            return notice
        screen = live.Screen(width, height - len(notice), unicode=unicode, frame=self._drawn)
        now_ms = int(time.monotonic() * 1000 + (self._ahead_ms or 0))
        return [*live.rows(self.job, self.tails, now_ms, screen), *notice]


def _live(watch: Watch) -> Job:
    from rich.console import Console, Group  # noqa: PLC0415 - 60 ms, only for a terminal
    from rich.live import Live  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    console = Console(no_color=not output.terminal().color, highlight=False, markup=False, emoji=False)
    if console.is_dumb_terminal or not console.is_terminal:
        return _plain(watch)
    unicode = console.encoding.lower().startswith("utf")
    view = _View()

    def texts(rows: list[live.Row]) -> list[Text]:
        return [
            Text.assemble(
                *((output.visible(piece), live.STYLES[style]) for piece, style in row),
                no_wrap=True,
                overflow="ellipsis" if unicode else "crop",
            )
            for row in rows
        ]

    def draw() -> Group:
        # One column and one row less than there are: a terminal that wraps or scrolls at its edge would smear.
        return Group(*texts(view.rows(console.width - 1, console.height - 1, unicode=unicode)))

    def lost(message: str) -> None:
        view.notice = f"{message.rstrip('.')}; the job goes on, looking for the daemon"

    display = Live(
        console=console,
        get_renderable=draw,
        refresh_per_second=REFRESH,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",
    )
    with _signals(display), display:
        for news in watch.news(lost):
            view.add(news)
    screen = live.Screen(console.width - 1, console.height, unicode=unicode)
    console.print(*texts(_ending(view, screen)), sep="\n")
    output.lines(outcome(view.job))
    return view.job


def _ending(view: _View, screen: live.Screen) -> list[live.Row]:
    """What stays on the screen: every step, and the last output of those that failed."""
    rows = live.summary(view.job, screen)
    for name, run in live.latest_runs(view.job).items():
        lines = view.tails.get(name)
        if run["status"] == "failed" and lines:
            rows.append([(f"last output of {name}:", "muted")])
            rows.extend([("  ", "muted"), (line, "")] for line in lines)
    return rows


@contextlib.contextmanager
def _signals(display: Live) -> Iterator[None]:
    """Give the terminal back whole whatever ends or stops us."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def pause(_number: int, _frame: FrameType | None) -> None:
        display.stop()
        # SIGSTOP and not SIGTSTP again: that one is ours now, and the shell shows both alike.
        os.kill(os.getpid(), signal.SIGSTOP)
        display.start()

    handlers = {signal.SIGTERM: leave, signal.SIGHUP: leave, signal.SIGTSTP: pause}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
