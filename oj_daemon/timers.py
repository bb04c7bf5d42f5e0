"""Due times: a fact to report when its time has come.

Rule: timers are derived from state (deadlines and retry times are facts), so they are set again after a restart and never
stored. Time is wall-clock milliseconds: a deadline means the same after the machine has slept.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

from oj_daemon.core.events import AnyEvent

LONGEST_WAIT: Final = 30.0
"""Seconds after which the clock is looked at again, in case it was set or the machine slept."""


class Timers:
    """Due facts by key; belongs to the event loop's thread."""

    def __init__(self, now: Callable[[], int], report: Callable[[AnyEvent, str], None]) -> None:
        self._now = now
        self._report = report
        self._due: dict[str, tuple[int, AnyEvent]] = {}
        self._heap: list[tuple[int, str]] = []
        self._handle: asyncio.TimerHandle | None = None

    def set(self, key: str, at: int, fact: AnyEvent) -> None:
        """Report `fact` at epoch millisecond `at`; replaces a timer of the same key."""
        self._due[key] = (at, fact)
        heapq.heappush(self._heap, (at, key))
        self._arm()

    def cancel(self, key: str) -> None:
        """Forget a timer; unknown keys are fine."""
        self._due.pop(key, None)
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._due):
            self._heap = [(at, key) for key, (at, _) in self._due.items()]
            heapq.heapify(self._heap)

    def close(self) -> None:
        """Report nothing any more."""
        self._due.clear()
        self._heap.clear()
        self._arm()

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        while self._heap and self._is_stale(self._heap[0]):
            heapq.heappop(self._heap)
        if self._heap:
            wait = min(max(self._heap[0][0] - self._now(), 0) / 1000, LONGEST_WAIT)
            self._handle = asyncio.get_running_loop().call_later(wait, self._fire)

    def _is_stale(self, entry: tuple[int, str]) -> bool:
        at, key = entry
        return key not in self._due or self._due[key][0] != at

    def _fire(self) -> None:
        self._handle = None
        now = self._now()
        facts: list[AnyEvent] = []
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            if not self._is_stale(entry):
                facts.append(self._due.pop(entry[1])[1])
        self._arm()
        for fact in facts:
            self._report(fact, "timer")
