"""News, one long poll after the other, over as many connections and daemons as it takes.

Rule: nothing is missed and nothing is told twice. Reading goes on at the change number and the log offsets that were
reached; a daemon that went away is looked for again until the patience of the caller ends.
"""

from __future__ import annotations

import time
from select import select

from oj_cli import diagnostics
from oj_daemon.errors import OjError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from oj_cli.context import Ctx
    from oj_daemon.wire.client import Client

    Answer = TypeVar("Answer")

TRANSIENT = ("unavailable", "closed", "timeout", "unreachable")
"""Codes of errors after which asking again may help: a daemon that drains or restarts shows all of them."""
LOST = ("closed", "timeout")
"""Those that a daemon shows which was there when it was asked."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
PATIENCE = 60.0
"""Seconds without any answer after which a daemon is given up on, where the caller set no limit."""
POLL_MS = 20_000
"""Longest time that the daemon keeps one poll open."""


class OutOfTime(Exception):
    """The deadline that the caller set has passed."""


def insist(
    ctx: Ctx,
    ask: Callable[[Client], Answer],
    *,
    deadline: float | None = None,
    was_there: bool = False,
    on_lost: Callable[[OjError], None] | None = None,
) -> Answer:
    """What a daemon answers, also when it is replaced while it is asked; one that was never there is an error."""
    length = FIRST_PAUSE
    lost_at: float | None = None
    while True:
        try:
            with ctx.connected() if lost_at is None else ctx.client() as client:
                return ask(client)
        except OjError as failure:
            now = time.monotonic()
            if lost_at is None:
                if failure.code not in (TRANSIENT if was_there else LOST):
                    raise
                lost_at = now
                if on_lost is not None:
                    on_lost(failure)
            elif failure.code not in TRANSIENT:
                raise
            elif now - lost_at > PATIENCE:
                raise _given_up(ctx, failure) from failure
        if deadline is not None and time.monotonic() > deadline:
            raise OutOfTime
        pause(length)
        length = min(2 * length, LONGEST_PAUSE)


def tell_lost(failure: OjError) -> None:
    """Warn that the daemon went away, where that is all there is to do about it."""
    diagnostics.warn(f"{failure.message}; waiting for the daemon to come back")


def _given_up(ctx: Ctx, failure: OjError) -> OjError:
    """The same failure, for somebody who has seen the daemon run: its log says why it ended."""
    return type(failure)(
        f"the daemon has not come back for {PATIENCE:g} s: {failure.message}",
        code=failure.code,
        hint="oj daemon logs says why it ended; oj daemon start"
        if ctx.settings.daemon_url is None
        else "its log, on its own machine, says why it ended",
    )


class Watch:
    """Asks for news, again and again.

    `logs` maps full ids to the offset from which their log is read as well; the other `fields` are those of the request.
    """

    def __init__(
        self,
        ctx: Ctx,
        ids: Sequence[str] = (),
        *,
        logs: dict[str, int] | None = None,
        deadline: float | None = None,
        on_lost: Callable[[OjError], None] | None = None,
        **fields: Any,  # noqa: ANN401 - the wire's values
    ) -> None:
        self._ctx = ctx
        self.ids = list(ids)
        self.logs = dict(logs or {})
        self._fields: dict[str, Any] = {"since": 0, **fields}
        self._client = ctx.client()
        self._deadline = deadline
        self._on_lost = on_lost

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def poll(self, wait_ms: int = POLL_MS) -> dict[str, Any]:
        """The next Changes; raises OutOfTime when the deadline passes, else the error that asking again cannot help."""
        length = FIRST_PAUSE
        lost_at: float | None = None
        while True:
            try:
                reply = self._client.call(
                    "Watch",
                    ids=self.ids,
                    wait_ms=self._left_ms(wait_ms),
                    logs=self.logs,
                    **self._fields,
                )
            except OjError as failure:
                self._client.close()
                if failure.code not in TRANSIENT:
                    raise
                now = time.monotonic()
                if lost_at is None:
                    lost_at = now
                    if self._on_lost is not None:
                        self._on_lost(failure)
                if self._deadline is None and now - lost_at > PATIENCE:
                    raise _given_up(self._ctx, failure) from failure
                if "nouns" not in self._fields:
                    # A daemon that lost its newest, unacknowledged changes may count lower than we have seen.
                    self._fields["since"] = 0
                    self._fields.pop("epoch", None)
                self._pause(length)
                length = min(2 * length, LONGEST_PAUSE)
                continue
            self._note(reply)
            for job_id, chunk in reply["logs"].items():
                self.logs[job_id] = chunk["offset"]
            return reply

    def _note(self, reply: dict[str, Any]) -> None:
        """Go on after this answer next time."""
        self._fields["since"] = reply["seq"]
        self._fields.pop("epoch", None)
        # Facts are told only when they are on disk, so the next daemon counts them alike; nothing else is.
        if reply["epoch"] and ("nouns" not in self._fields or not reply["seq"]):
            self._fields["epoch"] = reply["epoch"]

    def _left_ms(self, wait_ms: int) -> int:
        if self._deadline is None:
            return wait_ms
        left = int((self._deadline - time.monotonic()) * 1000)
        if left <= 0 and self._fields["since"]:
            raise OutOfTime
        return max(0, min(wait_ms, left))

    def _pause(self, seconds: float) -> None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise OutOfTime
            seconds = min(seconds, left)
        pause(seconds)


def pause(seconds: float) -> None:
    """Let time pass where there is nothing to wait for."""
    select([], [], [], seconds)
