"""The lines of a log, as far as they are kept.

Rule: pure. Text comes in pieces that may end anywhere, and each line is read once: made harmless, cut to a length that can be
looked at, and given to `read`, which says how it is shown or that it is left out. Lines have numbers that never change, so what
was found stays found when the oldest lines are dropped.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from oj_daemon.wire.text import ELLIPSIS, visible, width

MOST: Final = 10_000
"""Lines that are kept."""
LONGEST: Final = 4_000
"""Characters of a line that are kept: more would cost the app its pace, and nobody reads them here."""
TAB: Final = 8

Read = Callable[[str], str | None]
"""A line as it came -> as it is shown; None leaves it out."""
Span = tuple[int, int]
"""Where in a line something begins and ends, in characters."""


class LogText:
    """Lines, the newest last."""

    def __init__(self, read: Read = str, *, most: int = MOST) -> None:
        self.read = read
        self.first = 0
        """Number of the oldest line that is kept."""
        self.width = 0
        """Columns of the widest line so far."""
        self.query = ""
        self._lines: deque[str] = deque()
        self._most = most
        self._rest = ""
        """The beginning of a line, whose end has not come yet."""
        self._found: deque[int] = deque()

    @property
    def end(self) -> int:
        """Number of the line that comes next."""
        return self.first + len(self._lines)

    @property
    def unfinished(self) -> str | None:
        """The line whose end has not come yet, as it is shown; None when there is none."""
        return self.read(_harmless(self._rest)) if self._rest else None

    def add(self, text: str) -> None:
        """Take in what came next."""
        *lines, rest = (self._rest + text).split("\n")
        # A line without an end must not be copied whole with each piece of it.
        self._rest = rest[: LONGEST + 1]
        # Of more than is kept only the last lines are worth the work.
        for line in islice(lines, max(0, len(lines) - self._most), None):
            self._keep(line)

    def note(self, words: str) -> None:
        """A line of ours; the unfinished one will get no end."""
        self._rest = ""
        self._append(words)

    def clear(self) -> None:
        """Forget all lines; what is looked for stays."""
        self.first = self.end
        self.width = 0
        self._lines.clear()
        self._found.clear()
        self._rest = ""

    def line(self, number: int) -> str:
        """A line that is kept."""
        return self._lines[number - self.first]

    # Looking for something

    @property
    def found(self) -> int:
        """How many lines hold what is looked for."""
        return len(self._found)

    def search(self, query: str) -> None:
        """Look for this from now on; nothing when empty. Capital letters count only if there are any in it."""
        self.query = query
        self._found.clear()
        if query:
            numbered = enumerate(self._lines, self.first)
            self._found.extend(number for number, line in numbered if self._holds(line))

    def next_found(self, number: int) -> int | None:
        """The first line after this one that holds it, beginning anew after the last."""
        if not self._found:
            return None
        at = bisect_right(self._found, number)
        return self._found[at % len(self._found)]

    def last_found(self, number: int) -> int | None:
        """The last line before this one that holds it, beginning anew before the first."""
        if not self._found:
            return None
        return self._found[bisect_left(self._found, number) - 1]

    def rank(self, number: int) -> int:
        """Which of the lines that hold it this is, from 1."""
        return bisect_right(self._found, number)

    def spans(self, line: str) -> Iterator[Span]:
        """Where in a line it stands."""
        query, text = self.query, line
        if not query:
            return
        if query.islower() or not query.upper().isupper():
            query, text = query.lower(), line.lower()
            if len(text) != len(
                line
            ):  # a few letters are longer when small: better none than wrong
                return
        at = text.find(query)
        while at >= 0:
            yield at, at + len(query)
            at = text.find(query, at + len(query))

    def _holds(self, line: str) -> bool:
        return next(self.spans(line), None) is not None

    # Keeping

    def _keep(self, line: str) -> None:
        shown = self.read(_harmless(line))
        if shown is not None:
            self._append(shown)

    def _append(self, line: str) -> None:
        if len(self._lines) == self._most:
            self._lines.popleft()
            self.first += 1
            if self._found and self._found[0] < self.first:
                self._found.popleft()
        if self.query and self._holds(line):
            self._found.append(self.end)
        self._lines.append(line)
        self.width = max(self.width, width(line))


def _harmless(line: str) -> str:
    line = line.removesuffix("\r")
    if len(line) > LONGEST:
        line = line[:LONGEST] + ELLIPSIS
    return visible(line.expandtabs(TAB) if "\t" in line else line)


def wrapped(line: str, room: int) -> list[Span]:
    """Where a line is broken so that its pieces fit into `room` columns; one piece when there is nothing."""
    if room <= 0 or width(line) <= room:
        return [(0, len(line))]
    if line.isascii():
        return [(at, min(at + room, len(line))) for at in range(0, len(line), room)]
    spans: list[Span] = []
    start = used = 0
    for at, char in enumerate(line):
        wide = width(char)
        if used + wide > room and at > start:
            spans.append((start, at))
            start, used = at, 0
        used += wide
    return [*spans, (start, len(line))]
