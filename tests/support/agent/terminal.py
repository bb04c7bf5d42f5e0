"""The terminal of the scripted agent: raw bytes in, keys out; text scrolls up, the area below it is painted again.

Rule: everything is written in one go and only by the main thread; nobody here waits. A terminal that is gone raises
HangUp from whatever touched it.
"""

# pathlib would be a fifth of the start, and tests start this by the dozen.
# ruff: noqa: PTH123

from __future__ import annotations

import contextlib
import os
import re
import termios
import tty
import unicodedata
from collections.abc import Iterator

PASTE_BEGIN, PASTE_END = b"\x1b[200~", b"\x1b[201~"
SEQUENCES = {
    b"[A": "up",
    b"[B": "down",
    b"[C": "right",
    b"[D": "left",
    b"OA": "up",
    b"OB": "down",
    b"[Z": "backtab",
    b"[H": "home",
    b"[F": "end",
}
CONTROLS = {
    13: "enter",
    9: "tab",
    127: "backspace",
    8: "backspace",
    3: "ctrl-c",
    4: "ctrl-d",
    21: "ctrl-u",
}
SEQUENCE = re.compile(rb"\x1b(?:\[[0-9;?<>=]*[ -/]*[@-~]|O.|[P\]_^][^\x07\x1b]*(?:\x07|\x1b\\))")


class HangUp(Exception):
    """The terminal is gone."""


class Key:
    """A key press; typed and pasted text come as such, answers to queries apart."""

    def __init__(self, name: str, text: str = "") -> None:
        self.name = name
        self.text = text


class Terminal:
    """Standard input and output of this process."""

    def __init__(self, keys_to: str | None = None) -> None:
        self.is_tty = os.isatty(0)
        self.unread = b""
        self.answers = b""
        """What came that only a terminal says: answers to queries."""
        self._keys_to = keys_to
        self._below: list[str] = []
        self._saved = termios.tcgetattr(0) if self.is_tty else None

    def open(self) -> None:
        """Switch to raw keys and bracketed paste."""
        if self.is_tty:
            tty.setraw(0, termios.TCSANOW)
            self.write(b"\x1b[?2004h\x1b[?25l")

    def close(self) -> None:
        """Put the terminal back; silent when it is gone."""
        if self._saved is not None:
            with contextlib.suppress(HangUp, termios.error):
                self.write(b"\x1b[?2004l\x1b[?25h\r\n")
                termios.tcsetattr(0, termios.TCSANOW, self._saved)

    @property
    def columns(self) -> int:
        """The width now."""
        try:
            return os.get_terminal_size(1).columns or 80
        except OSError:
            return 80

    def write(self, data: bytes) -> None:
        """Write all of it."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(1, view) :]
        except OSError as error:
            raise HangUp from error

    def read(self) -> Iterator[Key]:
        """Read what is there; call it when standard input is readable."""
        try:
            data = os.read(0, 65536)
        except OSError as error:
            raise HangUp from error
        if not data:
            raise HangUp
        if self._keys_to:
            with open(self._keys_to, "ab", buffering=0) as file:
                file.write(data)
        self.unread += data
        yield from self._parse()

    def _parse(self) -> Iterator[Key]:
        while self.unread:
            data = self.unread
            if data.startswith(PASTE_BEGIN):
                body, end, rest = data[len(PASTE_BEGIN) :].partition(PASTE_END)
                if not end:
                    return
                self.unread = rest
                text = body.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
                yield Key("paste", text)
            elif data[0] == 0x1B:
                found = SEQUENCE.match(data)
                if found:
                    self.unread = data[found.end() :]
                    name = SEQUENCES.get(found.group()[1:])
                    if name:
                        yield Key(name)
                    else:
                        self.answers += found.group()
                elif data[1:2] in (b"[", b"O", b"P", b"]", b"_", b"^") and len(data) < 4096:
                    return
                else:
                    self.unread = data[1:]
                    yield Key("escape")
            elif data[0] in CONTROLS:
                self.unread = data[1:]
                yield Key(CONTROLS[data[0]])
            else:
                cut_at = next(
                    (i for i, byte in enumerate(data) if byte == 0x1B or byte in CONTROLS),
                    len(data),
                )
                piece = data[:cut_at]
                cut = _whole(piece)
                if not cut:
                    return
                self.unread = data[cut:]
                yield Key("text", piece[:cut].decode("utf-8", "replace"))

    def say(self, *lines: str) -> None:
        """Let lines scroll in above the area below."""
        below = self._below
        self.paint([])
        text = "".join(line + "\r\n" for part in lines for line in part.split("\n"))
        self.write(text.encode("utf-8", "replace"))
        self.paint(below)

    def paint(self, lines: list[str]) -> None:
        """Replace the area below."""
        columns = self.columns
        up = len(self._below) - 1
        erase = "" if up < 0 else (f"\x1b[{up}A" if up else "") + "\r\x1b[J"
        fitting = [fit(line, columns) for part in lines for line in part.split("\n")]
        if fitting == self._below:
            return
        self._below = fitting
        self.write((erase + "\r\n".join(fitting)).encode("utf-8", "replace"))


def _whole(data: bytes) -> int:
    """Return how many bytes of the end-cut text are whole characters."""
    for back in range(1, min(4, len(data)) + 1):
        lead = data[-back]
        if lead & 0xC0 == 0x80:
            continue
        need = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2 if lead >= 0xC0 else 1
        return len(data) - back if need > back else len(data)
    return len(data)


def fit(line: str, columns: int) -> str:
    """Cut a line at the width, so that it takes one row."""
    used = 0
    for index, character in enumerate(line):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > columns - 1 and index < len(line) - 1:
            return line[:index] + ("" if used > columns else character)
    return line
