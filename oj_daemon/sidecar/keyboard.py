"""Whose turn it is to type: deliveries one after another, a gap between them.

Rule: pure; it only keeps the order. Whether a delivery may still be typed is asked again when its turn comes, for the
screen may have changed while it waited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from oj_daemon.drivers.base import Keys


class Purpose(StrEnum):
    """Why something is typed."""

    NUDGE = "nudge"
    ANSWER = "answer"
    SELECT = "select"
    ENTER = "enter"


class Typing(msgspec.Struct, frozen=True):
    """One delivery."""

    purpose: Purpose
    keys: Keys
    request_id: int | None = None
    wait_ms: int = 0
    prompt_seq: int = 0
    choice: str = ""
    body: Mapping[str, object] = {}
    """What the caller is told when it has been typed."""


class Keyboard:
    """The queue of deliveries; at most one is under way."""

    def __init__(self, gap_ms: int) -> None:
        """`gap_ms` parts two deliveries."""
        self.gap_ms = gap_ms
        self.under_way: tuple[int, Typing] | None = None
        self._waiting: deque[Typing] = deque()
        self._last_id = 0
        self._free_at = 0

    def push(self, typing: Typing) -> None:
        """Queue a delivery."""
        self._waiting.append(typing)

    def due_at(self) -> int | None:
        """Return when the next delivery may begin, None when none waits or one is under way."""
        return None if self.under_way is not None or not self._waiting else self._free_at

    def pop(self) -> Typing:
        """Take the next delivery out of the queue."""
        return self._waiting.popleft()

    def begin(self, typing: Typing) -> int:
        """Note that a delivery is under way and return its id."""
        self._last_id += 1
        self.under_way = (self._last_id, typing)
        return self._last_id

    def end(self, delivery_id: int, now: int) -> Typing | None:
        """Note that a delivery was typed and return it; None for one that was forgotten."""
        if self.under_way is None or self.under_way[0] != delivery_id:
            return None
        typing = self.under_way[1]
        self.under_way = None
        self._free_at = now + self.gap_ms
        return typing

    def clear(self) -> list[Typing]:
        """Forget all deliveries and return them."""
        forgotten = [*([self.under_way[1]] if self.under_way else []), *self._waiting]
        self.under_way = None
        self._waiting.clear()
        return forgotten
