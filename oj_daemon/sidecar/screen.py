"""Bytes that a program wrote to its terminal become the screen that a person would see.

Rule: pure apart from the emulator's own memory, and the only importer of the emulator. Whatever the bytes are, feeding
them neither fails nor waits; questions that the program asks its terminal are answered through `on_reply`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

HISTORY_LINES: Final = 1000
"""Lines that scrolled off and are kept for a person who attaches."""
_FOREGROUND: Final = (229, 229, 229)
_BACKGROUND: Final = (0, 0, 0)
"""What a program learns that asks for the colours of its terminal: light on dark."""
_ALTERNATE: Final = (1049, 1047, 47)
BRACKETED_PASTE: Final = 2004
_EXTRAS: Final = ("modes", "scrolling_region", "keyboard")
_SCREEN_EXTRAS: Final = ("cursor", "style", "protection", "kitty_keyboard", "charsets")


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
        import pyghostty  # noqa: PLC0415 - 200 ms, paid when there is a terminal to emulate

        self._rows = rows
        self._terminal: Any = pyghostty.Terminal(
            cols, rows, scrollback=HISTORY_LINES, fg=_FOREGROUND, bg=_BACKGROUND
        )
        self._terminal.on_reply(on_reply)

    def feed(self, data: bytes) -> None:
        self._terminal.feed(data)

    def lines(self) -> list[str]:
        return self._padded(line.rstrip() for line in self._terminal.text().split("\n"))

    def styled(self) -> list[str]:
        return self._padded(self._format(everything=False).split("\r\n"))

    def restore(self) -> bytes:
        return b"\x1bc" + self._format(everything=True).encode()

    def cursor(self) -> tuple[int, int]:
        column, row = self._terminal.cursor
        return int(row), int(column)

    def mode(self, number: int) -> bool:
        return bool(self._terminal.mode(number))

    def is_alternate(self) -> bool:
        return any(self._terminal.mode(number) for number in _ALTERNATE)

    def resize(self, cols: int, rows: int) -> None:
        self._terminal.resize(cols, rows)
        self._rows = rows

    def _padded(self, lines: Iterable[str]) -> list[str]:
        found = list(lines)[: self._rows]
        return found + [""] * (self._rows - len(found))

    def _format(self, *, everything: bool) -> str:
        """The terminal as VT sequences: the visible rows alone, or all there is with modes and cursor."""
        from pyghostty._ffi import check, ffi, lib  # noqa: PLC0415 - loaded with the terminal
        from pyghostty.core import init_sized, read_buf  # noqa: PLC0415 - the same

        terminal = self._terminal
        options = init_sized("GhosttyFormatterTerminalOptions")
        options.emit = lib.GHOSTTY_FORMATTER_FORMAT_VT
        options.trim = True
        options.unwrap = everything
        rows = init_sized("GhosttySelection")  # must live as long as the options point to it
        if everything:
            for name in _EXTRAS:
                setattr(options.extra, name, True)
            for name in _SCREEN_EXTRAS:
                setattr(options.extra.screen, name, True)
        else:
            cols, count = terminal.size
            rows.start = terminal.ref(0, 0)[0]
            rows.end = terminal.ref(cols - 1, count - 1)[0]
            options.selection = rows
        formatter = ffi.new("GhosttyFormatter*")
        handle = terminal._t[0]  # noqa: SLF001 - the library has no formatter of its own yet; pinned exactly
        check(
            lib.ghostty_formatter_terminal_new(ffi.NULL, formatter, handle, options[0]), "formatter"
        )
        try:
            text: str = read_buf(
                lambda buffer, size, written: lib.ghostty_formatter_format_buf(
                    formatter[0], buffer, size, written
                )
            )
        finally:
            lib.ghostty_formatter_free(formatter[0])
        return text
