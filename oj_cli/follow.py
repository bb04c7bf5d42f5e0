"""Following one job until it ends: plain lines for pipes, a live view for terminals.

Rule: the daemon is asked, never the file system, so it works the same from far away; `oj_cli.watch` sees to it that a
daemon that restarts costs no line. What the live view looks like is decided in `oj_daemon.wire.picture`; rich is imported here
alone, and only for a terminal.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections import deque

from oj_cli import diagnostics, output
from oj_cli.talk import Talk
from oj_cli.watch import Watch
from oj_daemon.errors import OjError
from oj_daemon.wire import picture
from oj_daemon.wire.names import TERMINAL, short_id
from oj_daemon.wire.text import visible

TYPE_CHECKING = False  # as typing's own, which costs 5 ms to import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from rich.live import Live

    from oj_cli.context import Ctx
    from oj_daemon.wire.picture import Job

LOG_LINE = re.compile(r"\S+Z \[([^\]\s]+)\] ?(.*)")
"""A line of a job's log that belongs to a step: its time, the step, the text."""
LAST_LINE = re.compile(r"\S+Z \[job\] job (completed|failed|cancelled|suspended)(:.*)?")
"""What the log of an ended job ends with."""
LAST_WORDS_MS = 500
"""How long the end of the log is waited for."""
CHATTER = re.compile(r"step started( \(try \d+\))?|shell \w+( \(exit -?\d+\))?(: .*)?")
"""What the log tells of a step between its output; the live view shows the same by its signs."""
REFRESH = 8
"""Redraws of the live view in a second."""
KEPT = 20
"""Last lines of output that are kept for each step."""


class News:
    """What one poll brought."""

    def __init__(self, job: Job | None, lines: list[str]) -> None:
        self.job = job
        self.lines = lines


def news(watch: Watch, job_id: str) -> Iterator[News]:
    """News of a job until it has ended and its log is read to the end."""
    job: Job = {}
    rest = ""
    last = ""
    while True:
        # What a job says last it may say a moment after it has ended, so an ended one gets a moment.
        is_ended = job.get("status") in TERMINAL
        reply = watch.poll(LAST_WORDS_MS) if is_ended else watch.poll()
        if reply["missing"]:
            message = f"cannot follow job {short_id(job_id)}: the daemon does not know it any more"
            raise OjError(message, code="not_found", hint="oj job list")
        changed = next(iter(reply["details"]), None)
        chunk = reply["logs"].get(job_id)
        text = chunk["content"] if chunk else ""
        if chunk and chunk["restarted"]:
            rest = ""
        # Whole lines only; the beginning of one waits for its end.
        *lines, rest = (rest + text).split("\n")
        last = lines[-1] if lines else last
        job = changed or job
        is_over = job.get("status") in TERMINAL and (
            LAST_LINE.fullmatch(last) is not None or (is_ended and not text and changed is None)
        )
        if is_over and rest:
            lines.append(rest)
        yield News(changed, lines)
        if is_over:
            return


def follow(ctx: Ctx, job_id: str, *, wants_view: bool) -> Job | None:
    """Show a job until it ends; how it ended, or None when the user detached with Ctrl-C."""
    try:
        with _interrupts() as interrupts:
            return (_live if wants_view else _plain)(ctx, job_id, interrupts)
    except KeyboardInterrupt:
        return None


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Write Ctrl-C down besides raising it: raised inside of a `__del__` it would be forgotten."""
    seen: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or before is None:  # started in the background: not for us
        yield seen
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def heeding(every: Iterator[News], interrupts: list[int]) -> Iterator[News]:
    """The news, until someone interrupts."""
    for each in every:
        if interrupts:
            raise KeyboardInterrupt
        yield each


def await_end(ctx: Ctx, job_id: str) -> Job:
    """Wait without a word; how the job ended."""
    with Watch(
        ctx, [job_id], on_lost=lambda failure: diagnostics.warn(_lost_text(failure))
    ) as watch:
        for each in news(watch, job_id):
            if each.job is not None and each.job["status"] in TERMINAL:
                return each.job
    message = f"lost sight of job {short_id(job_id)}"
    raise OjError(message, code="internal")


def split_line(line: str, step: str) -> tuple[str, str]:
    """The step that a log line belongs to, and its text; a line without a stamp goes on with the `step` before it."""
    match = LOG_LINE.fullmatch(line)
    # From its second run on a step is called `name#2` there.
    return (match[1].partition("#")[0], match[2]) if match else (step, line)


def outcome(job: Job) -> list[list[output.Text]]:
    """How a job ended, why, and what to do about it."""
    status = str(job["status"])
    took = (
        picture.duration(job["finished_at_ms"] - job["created_at_ms"])
        if job["finished_at_ms"]
        else ""
    )
    reason = " ".join((job["error"] or job["reason"] or "").split())
    made: list[list[output.Text]] = [
        [
            output.status(status),
            f" {picture.title_of(job)}",
            output.muted(f" ({took})" if took else ""),
            f": {reason}" if reason and status != "completed" else "",
        ]
    ]
    short = short_id(job["id"])
    if status in ("failed", "suspended"):
        if job["workspace_path"]:
            made.append([output.context("  workspace kept: "), job["workspace_path"]])
        made.append([output.context("  see the log:    "), output.literal(f"oj logs {short}")])
        made.append([output.context("  go on:          "), output.literal(f"oj resume {short}")])
    return made


def _plain(ctx: Ctx, job_id: str, interrupts: list[int]) -> Job:
    job: Job = {}
    talk = Talk(ctx)

    def lost(failure: OjError) -> None:
        diagnostics.warn(_lost_text(failure))

    with Watch(ctx, [job_id], logs={job_id: 0}, on_lost=lost) as watch:
        for each in heeding(news(watch, job_id), interrupts):
            if each.lines:
                output.block("\n".join(each.lines))
            job = each.job or job
            for decision in talk.fresh(each.job):
                talk.hold(decision)
    output.lines(outcome(job))
    return job


def _lost_text(failure: OjError) -> str:
    return f"lost the daemon ({failure.message}); the job goes on, looking for the daemon again"


class _View:
    """What the live view shows; changed by the thread that polls, read by the one that draws."""

    def __init__(self) -> None:
        self.job: Job = {}
        self.tails: dict[str, list[str]] = {}
        self.notice = ""
        self._step = ""
        self._ahead_ms: float | None = None
        self._drawn = 0

    def add(self, news: News) -> None:
        """Take in what a poll brought."""
        self.notice = ""
        tails = {name: deque(lines, maxlen=KEPT) for name, lines in self.tails.items()}
        for line in news.lines:
            step, text = split_line(line, self._step)
            self._step = step
            if step and text and CHATTER.fullmatch(text) is None:
                # Cut before it is cleaned: a line of a megabyte would take as long to clean as to show.
                tails.setdefault(step, deque(maxlen=KEPT)).append(
                    visible(text[: picture.LONGEST].rstrip())
                )
        self.tails = {name: list(lines) for name, lines in tails.items()}
        if news.job is not None:
            ahead = news.job["updated_at_ms"] - time.monotonic() * 1000
            # The daemon's clock was at least there when it answered; ours may be off.
            self._ahead_ms = ahead if self._ahead_ms is None else max(self._ahead_ms, ahead)
            self.job = news.job

    def rows(self, width: int, height: int, *, unicode: bool) -> list[picture.Row]:
        """The rows to draw now."""
        self._drawn += 1
        notice: list[picture.Row] = [[(self.notice, "warn")]] if self.notice else []
        if not self.job:
            return notice
        now_ms = int(time.monotonic() * 1000 + (self._ahead_ms or 0))
        screen = picture.Screen(
            width, height - len(notice), now_ms, unicode=unicode, frame=self._drawn
        )
        return [*picture.rows(self.job, self.tails, screen), *notice]


def _live(ctx: Ctx, job_id: str, interrupts: list[int]) -> Job:
    from rich.console import Console, Group  # noqa: PLC0415 - 60 ms, only for a terminal
    from rich.live import Live  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    console = Console(
        no_color=not output.terminal().color, highlight=False, markup=False, emoji=False
    )
    if console.is_dumb_terminal or not console.is_terminal:
        return _plain(ctx, job_id, interrupts)
    unicode = console.encoding.lower().startswith("utf")
    view = _View()
    talk = Talk(ctx)

    def texts(rows: list[picture.Row]) -> list[Text]:
        return [
            Text.assemble(
                *((visible(piece), picture.STYLES[style]) for piece, style in row),
                no_wrap=True,
                overflow="ellipsis" if unicode else "crop",
            )
            for row in rows
        ]

    def draw() -> Group:
        # One column and one row less than there are: a terminal that wraps or scrolls at its edge would smear.
        return Group(*texts(view.rows(console.width - 1, console.height - 1, unicode=unicode)))

    def lost(failure: OjError) -> None:
        view.notice = _lost_text(failure)

    display = Live(
        console=console,
        get_renderable=draw,
        refresh_per_second=REFRESH,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",
    )
    with Watch(ctx, [job_id], logs={job_id: 0}, on_lost=lost) as watch, _signals(display), display:
        for each in heeding(news(watch, job_id), interrupts):
            view.add(each)
            for decision in talk.fresh(each.job) if talk.can_ask else ():
                display.stop()
                talk.hold(decision)
                display.start()
    ended_ms = view.job["finished_at_ms"] or view.job["updated_at_ms"]
    screen = picture.Screen(console.width - 1, console.height, ended_ms, unicode=unicode)
    console.print(*texts(_ending(view, screen)), sep="\n")
    output.lines(outcome(view.job))
    return view.job


def _ending(view: _View, screen: picture.Screen) -> list[picture.Row]:
    """What stays on the screen: every step, and the last output of those that failed."""
    rows = picture.summary(view.job, screen)
    for name, run in picture.latest_runs(view.job).items():
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
        is_drawn = display.is_started  # not while a question stands there
        display.stop()
        # SIGSTOP and not SIGTSTP again: that one is ours now, and the shell shows both alike.
        os.kill(os.getpid(), signal.SIGSTOP)
        if is_drawn:
            display.start()

    handlers = {signal.SIGTERM: leave, signal.SIGHUP: leave, signal.SIGTSTP: pause}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
