"""Frames in the order in which they happened, for whoever comes late or falls behind.

Rule: bounded by number and by bytes, and whoever missed something is told how much. A position means the same frame for ever.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple


class Entry(NamedTuple):
    """One frame, encoded once for all its readers."""

    position: int
    """From 1 upwards without gaps."""
    seq: int
    """The sequence number of the agent's state that it belongs to; 0 where that means nothing."""
    text: str

    @property
    def placed(self) -> str:
        """The frame, saying its position as well."""
        return f'{self.text[:-1]},"pos":{self.position}}}'


class Journal:
    """The newest frames of one stream."""

    def __init__(self, *, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self.last = 0
        """Position of the newest frame ever."""

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, text: str, *, seq: int = 0) -> Entry:
        """Add a frame; old ones make room."""
        self.last += 1
        entry = Entry(self.last, seq, text)
        self._entries.append(entry)
        self._bytes += len(text)
        while len(self._entries) > self._most or (
            self._bytes > self._most_bytes and len(self._entries) > 1
        ):
            self._bytes -= len(self._entries.popleft().text)
        return entry

    def after(self, position: int, most: int = 64) -> tuple[list[Entry], int]:
        """Up to `most` frames after a position, and how many before them are lost."""
        oldest = self.last - len(self._entries) + 1
        missed = max(0, oldest - 1 - position)
        skip = max(0, position + 1 - oldest)
        return list(islice(self._entries, skip, skip + most)), missed

    def position_before(self, seq: int) -> int:
        """Where to begin for every frame whose sequence number is greater than `seq`."""
        for entry in self._entries:
            if entry.seq > seq:
                return entry.position - 1
        return self.last
