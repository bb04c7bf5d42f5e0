"""Bytes that a program wrote to its terminal become the screen that a person would see.

Rule: pure apart from the emulator's own memory, and the only one that knows the emulator. Whatever the bytes are, feeding
them neither fails nor waits; questions that the program asks its terminal are answered through `on_reply`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from oj_daemon.sidecar import ghostty

HISTORY_LINES: Final = 1000
"""Lines that scrolled off and are kept for a person who attaches."""
_FOREGROUND: Final = (229, 229, 229)
_BACKGROUND: Final = (0, 0, 0)
"""What a program learns that asks for the colours of its terminal: light on dark."""
_ALTERNATE: Final = (1049, 1047, 47)
BRACKETED_PASTE: Final = 2004


class Screen(Protocol):
    """A terminal without a window."""

    def feed(self, data: bytes) -> None:
        """Take what the program wrote, cut anywhere."""

    def lines(self) -> list[str]:
        """The rows as shown, without blanks at their ends; always as many as the screen has."""

    def styled(self) -> list[str]:
        """The same with colours, as SGR sequences and no others."""

    def restore(self) -> bytes:
        """What to write to another terminal so that it shows the same, history included."""

    def cursor(self) -> tuple[int, int]:
        """Row and column, from 0."""

    def mode(self, number: int) -> bool:
        """A DEC private mode is on."""

    def is_alternate(self) -> bool:
        """The alternate screen is shown."""

    def resize(self, cols: int, rows: int) -> None:
        """Change the size."""


OnReply = Callable[[bytes], None]


def open_screen(cols: int, rows: int, on_reply: OnReply) -> Screen:
    """A screen of that size."""
    return _Ghostty(cols, rows, on_reply)


class _Ghostty:
    """Backed by libghostty-vt."""

    def __init__(self, cols: int, rows: int, on_reply: OnReply) -> None:
        self._rows = rows
        self._terminal = ghostty.Terminal(cols, rows, HISTORY_LINES)
        self._terminal.colours(_FOREGROUND, _BACKGROUND)
        self._terminal.on_reply(on_reply)

    def feed(self, data: bytes) -> None:
        self._terminal.feed(data)

    def lines(self) -> list[str]:
        text = self._terminal.visible(ghostty.PLAIN)
        return self._padded([line.rstrip() for line in text.split("\n")])

    def styled(self) -> list[str]:
        return self._padded(self._terminal.visible(ghostty.VT).split("\r\n"))

    def restore(self) -> bytes:
        return b"\x1bc" + self._terminal.everything().encode()

    def cursor(self) -> tuple[int, int]:
        return self._terminal.cursor()

    def mode(self, number: int) -> bool:
        return self._terminal.mode(number)

    def is_alternate(self) -> bool:
        return any(self._terminal.mode(number) for number in _ALTERNATE)

    def resize(self, cols: int, rows: int) -> None:
        self._terminal.resize(cols, rows)
        self._rows = rows

    def _padded(self, lines: list[str]) -> list[str]:
        # The one control character that the emulator takes for a letter.
        lines = [line.replace("\x7f", "\u2421") for line in lines]
        return lines[: self._rows] + [""] * (self._rows - len(lines))
