"""What a bad program does to its terminal and to its machine, on demand.

Rule: each piece of trouble is bounded: floods have a size, children end by themselves.
"""

# pathlib would be a fifth of the start, and tests start this by the dozen.
# ruff: noqa: PTH105, PTH110, PTH123

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]

HALVES = (
    b"\x1b[38;5;",
    b"\x1b]0;a title without an end ",
    b"\x1b[?1049h text ",
    b"\x1bP+q544e",
    b"\xe2\x9d",
    b"\x1b[999;999H",
    b"\x1b[?2004",
    b"\x1b[2J\x1b[H",
    b"\x1b(0lqqk\x1b(B",
    b"\x1b[31mred\r\n",
    b"\x9b31m",
    b"\x00\x07\x08\x0e\x0f",
)


def ignore(names: list[str]) -> None:
    """Ignore signals, here and in what is started from here."""
    for name in names:
        signal.signal(getattr(signal, "SIG" + name.removeprefix("SIG")), signal.SIG_IGN)


def die(name: str) -> None:
    """End by a signal, the way a crash or the kernel's memory killer ends a process."""
    number = getattr(signal, "SIG" + name.removeprefix("SIG"))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pause()


def leave_child(how: Json) -> None:
    """Fork twice: the grandchild outlives us, deaf to HUP and TERM, and may keep the terminal open."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if how.get("session"):
        os.setsid()
    if os.fork():
        os._exit(0)
    try:
        ignore(list(how.get("ignore", ["HUP", "TERM", "INT"])))
        signal.alarm(int(how.get("seconds", 300)))
        if not how.get("terminal"):
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
        _put(str(how["pid"]), f"{os.getpid()}\n")
        until = how.get("until")
        while not (until and os.path.exists(until)):
            # Nobody waits for this; it only has to be there.
            time.sleep(0.05)
    finally:
        os._exit(0)


def _put(path: str, text: str) -> None:
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)


def flood(how: Json) -> Iterator[bytes]:
    """Return the pieces of a flood: so many megabytes of text, binary, escapes, or one line."""
    left = int(float(how.get("megabytes", 1)) * 1_000_000)
    make = _maker(str(how.get("kind", "text")))
    number = 0
    while left > 0:
        piece = make(number)[:left]
        left -= len(piece)
        number += 1
        yield piece


def _maker(kind: str) -> Callable[[int], bytes]:
    if kind == "text":
        return lambda number: b"".join(
            b"flood %09d %s\r\n" % (number * 400 + i, b"0123456789" * 8) for i in range(400)
        )
    if kind == "line":
        return lambda _number: b"x" * 32768
    if kind == "binary":
        return lambda number: bytes((i * 167 + number * 13 + (i >> 3)) & 0xFF for i in range(32768))
    if kind == "escapes":
        return lambda number: b"".join(HALVES[(number + i) % len(HALVES)] for i in range(2000))
    raise ValueError(f"no flood of kind {kind!r}")


def paced(pieces: Iterator[bytes], rate: float, pump: Callable[[float], None]) -> Iterator[bytes]:
    """Let pieces through at so many megabytes a second; 0 is as fast as they are taken."""
    begun, sent = time.monotonic(), 0
    for piece in pieces:
        yield piece
        sent += len(piece)
        ahead = begun + sent / (rate * 1e6) - time.monotonic() if rate else 0.0
        pump(max(0.0, ahead))
