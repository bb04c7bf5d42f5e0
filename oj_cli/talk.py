"""What a followed job needs a person for: told where it is followed, and answered there if a person sits at it.

Rule: each decision is brought up once. While the person thinks, the decision may be answered elsewhere, or its deadline may
pass; that ends the question, so nobody answers what is no longer asked.
"""

from __future__ import annotations

import os
import sys
from select import select

from oj_cli import diagnostics, output
from oj_daemon.errors import OjError, WireError
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import one_line

TYPE_CHECKING = False  # as typing's own, which costs 5 ms to import
if TYPE_CHECKING:
    from typing import Any

    from oj_cli.context import Ctx

LOOK_AGAIN = 1.0
"""Seconds between two looks at whether a decision is still open."""
LONGEST_LINE = 4096
"""Bytes that a terminal hands over for one line."""


class _Closed(Exception):
    """The decision is no longer open."""

    def __init__(self, view: dict[str, Any]) -> None:
        super().__init__(view)
        self.view = view


class Talk:
    """The decisions of one job that is followed."""

    def __init__(self, ctx: Ctx) -> None:
        self.ctx = ctx
        self.can_ask = output.is_tty() and sys.stdin is not None and sys.stdin.isatty()
        self._brought_up: set[str] = set()

    def fresh(self, job: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The open decisions of a job that were not brought up yet."""
        every = job.get("decisions", ()) if job else ()
        found = [each for each in every if each["id"] not in self._brought_up]
        self._brought_up.update(each["id"] for each in found)
        return found

    def hold(self, view: dict[str, Any]) -> None:
        """Tell what is to be decided, and take the answer if there is somebody to give it."""
        from oj_cli import decide  # noqa: PLC0415 - only for jobs that wait
        from oj_daemon.wire.format import now_ms  # noqa: PLC0415 - the same

        if not self.can_ask:
            output.line(
                output.status("waiting", f"Waits for a decision ({view['source']}): "),
                one_line(view["summary"]),
            )
            output.lines(decide.hint(view))
            return
        output.lines([[], *decide.lines(view, now_ms(), with_hint=False)])
        _forget_typed()
        try:
            self._settle(view)
        except _Closed as closed:
            output.lines([[], _how_it_closed(closed.view)])

    def _settle(self, view: dict[str, Any]) -> None:
        from oj_cli import decide  # noqa: PLC0415 - loaded already

        short = short_id(view["id"])
        while True:
            answer = decide.ask(view, lambda prompt: self._read(prompt, view["id"]))
            if answer is decide.QUIT:
                raise KeyboardInterrupt  # as Ctrl-C would: detach, the job goes on
            if answer is decide.SKIP:
                output.line("Left open: ", output.literal(f"oj decision show {short}"))
                return
            try:
                self.ctx.action("DecisionResolve", **decide.fields(view["id"], answer))
            except OjError as failure:
                diagnostics.error(failure.message, hint=failure.hint)
                if failure.code == "invalid":
                    continue
                return
            output.line(f"Resolved decision {short}")
            return

    def _read(self, prompt: str, decision_id: str) -> str | None:
        """A line from the terminal; raises _Closed when nobody has to type it any more."""
        output.write(prompt)
        stdin = sys.stdin.fileno()
        while not select([stdin], [], [], LOOK_AGAIN)[0]:
            try:
                view = self.ctx.query("DecisionShow", id=decision_id)
            except WireError:  # a daemon that restarts
                continue
            if view["status"] != "open":
                raise _Closed(view)
        # Not by way of sys.stdin, which might keep a second line where select does not see it.
        typed = os.read(stdin, LONGEST_LINE)
        if not typed:
            output.write("\n")
            return None
        return typed.decode("utf-8", "replace").strip()


def _how_it_closed(view: dict[str, Any]) -> str:
    from oj_daemon.wire import answers  # noqa: PLC0415 - loaded already

    if view["status"] != "resolved":
        return f"No longer asked: {view['note'] or view['status']}"
    what = answers.chosen(view) or one_line(view["message"])
    return f"Answered by {view['by'] or 'someone'}: {what}"


def _forget_typed() -> None:
    """Drop what was typed before the question was seen: it is no answer."""
    import termios  # noqa: PLC0415 - only where a person sits

    try:
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    except (termios.error, OSError):
        return
