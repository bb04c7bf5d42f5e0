"""Names of keys and signals as clients write them.

Rule: tables only. A name that is not here is refused before anything is typed or sent.
"""

from __future__ import annotations

import signal
import string
from collections.abc import Sequence
from enum import Enum
from typing import Final

from oj_daemon.drivers.keys import DOWN, ENTER, ESCAPE, UP

KEYS: Final[dict[str, bytes]] = {
    "enter": ENTER,
    "return": ENTER,
    "tab": b"\t",
    "escape": ESCAPE,
    "esc": ESCAPE,
    "space": b" ",
    "backspace": b"\x7f",
    "up": UP,
    "down": DOWN,
    "right": b"\x1b[C",
    "left": b"\x1b[D",
    "home": b"\x1b[H",
    "end": b"\x1b[F",
    "insert": b"\x1b[2~",
    "delete": b"\x1b[3~",
    "del": b"\x1b[3~",
    "pageup": b"\x1b[5~",
    "page_up": b"\x1b[5~",
    "pagedown": b"\x1b[6~",
    "page_down": b"\x1b[6~",
    **{f"f{number}": b"\x1bO" + bytes([79 + number]) for number in range(1, 5)},
    **{
        f"f{number}": b"\x1b[%d~" % code
        for number, code in zip(range(5, 13), (15, 17, 18, 19, 20, 21, 23, 24), strict=True)
    },
    **{
        f"ctrl-{letter}": bytes([number])
        for number, letter in enumerate(string.ascii_lowercase, start=1)
    },
}


def encode(names: Sequence[str]) -> bytes:
    """The bytes of these keys, all or none; KeyError with the first unknown name."""
    return b"".join(KEYS[name.lower()] for name in names)


class Reach(Enum):
    """Who gets a signal."""

    CHILD = "child"
    FOREGROUND = "foreground"
    """The process group that the terminal would interrupt."""
    GROUP = "group"
    """The child's whole process group."""


_REACH: Final = {
    "HUP": Reach.GROUP,
    "INT": Reach.FOREGROUND,
    "QUIT": Reach.FOREGROUND,
    "KILL": Reach.GROUP,
    "USR1": Reach.CHILD,
    "USR2": Reach.CHILD,
    "TERM": Reach.GROUP,
    "CONT": Reach.GROUP,
    "STOP": Reach.GROUP,
    "TSTP": Reach.FOREGROUND,
    "WINCH": Reach.CHILD,
}


def signal_of(text: str) -> tuple[signal.Signals, Reach]:
    """A signal by name (any case, SIG or not) or number; KeyError when it is none of ours."""
    name = text.strip().upper().removeprefix("SIG")
    if name.isascii() and name.isdigit():
        known = {str(int(signal.Signals[f"SIG{key}"])): key for key in _REACH}
        name = known.get(str(int(name)), name)
    if name not in _REACH:
        raise KeyError(text)
    return signal.Signals[f"SIG{name}"], _REACH[name]
