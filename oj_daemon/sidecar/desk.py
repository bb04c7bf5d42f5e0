"""What the parts of the machine share: the time, what is to be done, timers, sequence numbers, the latest screen.

Rule: pure, and no decisions. Outputs are appended in the order in which they are to be carried out.
"""

from __future__ import annotations

from collections.abc import Mapping

from oj_daemon.drivers.base import Pacing, Signal, Source
from oj_daemon.sidecar.values import (
    ApiReply,
    Broadcast,
    CancelTimer,
    Event,
    HookReply,
    Note,
    Output,
    SetTimer,
    Timing,
)


class Desk:
    """One turn of the machine: the time of its input and the outputs so far."""

    def __init__(self, timing: Timing) -> None:
        """Nothing has happened yet."""
        self.timing = timing
        self.now = 0
        self.seq = 0
        self.epoch = 0
        self.out: list[Output] = []
        self.screen = Signal(source=Source.SCREEN)
        """What the driver read from the latest screen."""
        self.pacing = self.pace(bracketed_paste=False)
        self._timers: dict[str, int] = {}

    def next_seq(self) -> int:
        """Return a new sequence number; all kinds of events share them."""
        self.seq += 1
        return self.seq

    def tell(self, event: Event) -> None:
        """Broadcast an event."""
        self.out.append(Broadcast(event))

    def let_go(self, hook_id: int, body: str = "", run_seconds: int = 0) -> None:
        """Answer a hook."""
        self.out.append(HookReply(hook_id, body, run_seconds))

    def reply(self, request_id: int | None, status: int, body: Mapping[str, object]) -> None:
        """Answer a request, if somebody waits for the answer."""
        if request_id is not None:
            self.out.append(ApiReply(request_id, status, body))

    def refuse(self, request_id: int, status: int, code: str, message: str) -> None:
        """Answer a request with an error."""
        self.reply(request_id, status, {"error": {"code": code, "message": message}})

    def note(self, text: str) -> None:
        """Write a line to the log of the sidecar."""
        self.out.append(Note(text))

    def set_timer(self, name: str, after_ms: int) -> None:
        """Be woken in a while."""
        self._timers[name] = self.now + after_ms
        self.out.append(SetTimer(name, self.now + after_ms))

    def set_timer_once(self, name: str, after_ms: int) -> None:
        """Be woken in a while, unless that is arranged already."""
        if name not in self._timers:
            self.set_timer(name, after_ms)

    def cancel_timer(self, name: str) -> None:
        """Forget a timer."""
        if self._timers.pop(name, None) is not None:
            self.out.append(CancelTimer(name))

    def cancel_timers(self) -> None:
        """Forget all timers."""
        for name in list(self._timers):
            self.cancel_timer(name)

    def take_due(self, name: str) -> bool:
        """Return whether a timer is really due, and forget it then; one that was forgotten may still fire."""
        due = self._timers.get(name)
        if due is None or self.now < due:
            return False
        del self._timers[name]
        return True

    def pace(self, *, bracketed_paste: bool) -> Pacing:
        """Return how to type at this terminal."""
        return Pacing(
            delay_ms=self.timing.input_delay_ms,
            per_byte_ms=self.timing.input_delay_per_byte_ms,
            max_ms=self.timing.input_delay_max_ms,
            bracketed_paste=bracketed_paste,
        )
