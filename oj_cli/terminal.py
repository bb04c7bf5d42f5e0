"""This terminal, lent to a program far away: keys go there, what it shows comes here.

Rule: whatever ends it (the person, the program, the daemon, a signal, a bug), the terminal is what it was before. The other
side's screen lives on the alternate screen, so what stood here stays. Nobody who types waits for a line that is stuck.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import termios
import time
import tty
from contextlib import contextmanager, suppress
from select import select
from typing import NamedTuple

from oj_daemon.errors import OjError, WireError
from oj_daemon.wire.frames import DATA, DETACH, EXIT, RESIZE, FrameReader, frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    from oj_daemon.wire.client import Link

LEAVE_KEYS = re.compile(rb"\x1d|\x1b\[93;5u|\x1b\[27;5;93~")
"""Ctrl-], as a terminal sends it, and as one does whose program asked for unambiguous keys."""
ENTER = b"\x1b[22;0t\x1b[?1049h\x1b[2J\x1b[H"
SOFT_RESET = (
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1004l\x1b[?2004l"  # mouse, focus, paste
    b"\x1b[?1l\x1b>\x1b[>4;0m\x1b[=0;1u\x1b[?2026l"  # keys
    b"\x1b[?6l\x1b[?7h\x1b[4l\x1b[r\x1b(B\x0f\x1b[0m\x1b[?25h\x1b[0 q"  # drawing
)
"""Undoes what a program may have switched on, and touches no other screen than the present one, unlike a hard reset."""
EXIT_SCREEN = b"\x18\x1b\\" + SOFT_RESET + b"\x1b[?1049l\x1b[23;0t"
CLEAR = b"\x1b[H\x1b[2J"
CHUNK = 64 * 1024
TYPED_MOST = 1 << 20
"""Bytes that are kept for a line that does not take them; what is typed beyond is dropped."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
PATIENCE = 60.0
"""Seconds for which a daemon that went away is looked for."""
ALTERNATE = {b"1049", b"1047", b"47"}
_SPECIAL = re.compile(rb"\x1bc|\x1b\[\?([0-9;]*)([hl])")
_HALF = re.compile(rb"\x1b(?:\[(?:\?[0-9;]{0,40})?)?\Z")


class Line(NamedTuple):
    """A connection that carries frames of a terminal."""

    socket: Link
    reader: FrameReader
    frames: list[bytes]
    """Read already."""


class Ending(NamedTuple):
    """How it came to an end."""

    kind: str
    """left (by Ctrl-]), ended (the program), closed (by the other side), lost (the daemon)."""
    reason: str = ""
    code: int | None = None
    signal: int | None = None


def check() -> None:
    """Raise unless a person sits here."""
    for stream, name in ((sys.stdin, "standard input"), (sys.stdout, "standard output")):
        if stream is None or not stream.isatty():
            raise OjError(
                f"cannot attach: {name} is not a terminal",
                code="invalid",
                hint="oj peek ID shows the screen; oj agent send ID types a message",
            )


def size() -> tuple[int, int]:
    """Columns and rows of this terminal."""
    try:
        found = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return 80, 24
    return found.columns or 80, found.lines or 24


def lend(line: Line, again: Callable[[], Line]) -> Ending:
    """Lend the terminal until somebody has had enough; `again` makes the line anew after the daemon went away."""
    with _Raw() as raw:
        loan = _Loan(raw)
        try:
            while True:
                ending = loan.carry(line)
                if ending.kind != "lost":
                    return ending
                found = loan.look_for(again, ending)
                if isinstance(found, Ending):
                    return found
                line = found
        finally:
            line.socket.close()


class _Loan:
    """What goes on between this terminal and the other side."""

    def __init__(self, raw: _Raw) -> None:
        self._raw = raw
        self._filter = Filter()
        self._typed = bytearray()
        """Frames that the line has not taken yet."""

    def carry(self, line: Line) -> Ending:
        """Carry bytes until the line ends."""
        link, raw = line.socket, self._raw
        link.setblocking(False)
        self._typed.clear()
        self._filter = Filter()
        frames = line.frames
        while True:
            for payload in frames:
                ending = self._show(payload)
                if ending is not None:
                    return ending
            if raw.has_changed:
                raw.has_changed = False
                cols, rows = size()
                self._put(RESIZE, json.dumps({"cols": cols, "rows": rows}).encode())
            readable, writable, _ = select(
                [raw.input, link, raw.wakeup], [link] if self._typed else [], []
            )
            raw.calm()
            frames = []
            if raw.input in readable and self._read_keys():
                self._say_goodbye(link)
                return Ending("left")
            try:
                if writable:
                    del self._typed[: link.send(self._typed)]
                if link in readable:
                    data = link.recv(CHUNK)
                    if not data:
                        return Ending("lost", "the daemon is gone")
                    frames = line.reader.feed(data)
            except BlockingIOError:
                continue
            except (OSError, WireError) as failure:
                return Ending("lost", str(failure))

    def _show(self, payload: bytes) -> Ending | None:
        kind, data = payload[0], payload[1:]
        if kind == DATA:
            shown = self._filter.feed(data)
            self._raw.write(shown)
            if self._filter.wants_redraw:
                self._filter.wants_redraw = False
                self._raw.has_changed = True
            return None
        told: dict[str, Any] = {}
        with suppress(ValueError):
            told = json.loads(data)
        if kind == EXIT:
            return Ending("ended", code=told.get("code"), signal=told.get("signal"))
        if kind == DETACH:
            return Ending("lost" if told.get("again") else "closed", str(told.get("reason", "")))
        return None

    def _read_keys(self) -> bool:
        """Take what was typed; True when the person leaves."""
        keys = self._raw.read()
        leave = LEAVE_KEYS.search(keys)
        if leave is not None:
            keys = keys[: leave.start()]
        if keys:
            self._put(DATA, keys)
        return leave is not None or not self._raw.is_open

    def _put(self, kind: int, data: bytes) -> None:
        if len(self._typed) < TYPED_MOST:
            self._typed += frame(bytes([kind]) + data)

    def _say_goodbye(self, link: Link) -> None:
        """Send what was typed before leaving, as far as it goes at once."""
        self._put(DETACH, b"{}")
        with suppress(OSError):
            link.send(self._typed)

    def look_for(self, again: Callable[[], Line], ending: Ending) -> Line | Ending:
        """A new line to a daemon that went away; the person may leave meanwhile."""
        self._notice(f"{ending.reason or 'the daemon is gone'}; looking for it again")
        until = time.monotonic() + PATIENCE
        pause = FIRST_PAUSE
        while True:
            if self._is_left_within(pause):
                return Ending("left")
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                line = again()
            except OjError as failure:
                if failure.code not in ("unavailable", "closed", "timeout", "unreachable"):
                    return Ending("closed", failure.message)
                if time.monotonic() > until:
                    return Ending("lost", failure.message)
                continue
            self._raw.has_changed = False  # the line was made with the present size
            return line

    def _is_left_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            readable, _, _ = select([self._raw.input, self._raw.wakeup], [], [], left)
            self._raw.calm()
            if self._raw.input in readable:
                keys = self._raw.read()
                if LEAVE_KEYS.search(keys) is not None or not self._raw.is_open:
                    return True
        return False

    def _notice(self, text: str) -> None:
        cols, rows = size()
        words = f" oj: {text} (Ctrl-] leaves) "[: max(0, cols - 1)]
        self._raw.write(
            b"\x18" + SOFT_RESET + f"\x1b[{rows};1H\x1b[7m{words}\x1b[0m\x1b[K".encode()
        )


class Filter:
    """Keeps the other side's output on our alternate screen: it can neither leave that nor reset the terminal."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_alternate = False
        self.wants_redraw = False
        """The other side went back to its main screen, which we do not have: it has to be drawn again."""

    def feed(self, data: bytes) -> bytes:
        """What to write for the next piece of output."""
        data = self._rest + data
        half = _HALF.search(data)
        self._rest = half.group() if half is not None else b""
        return _SPECIAL.sub(self._replace, data[: len(data) - len(self._rest)])

    def _replace(self, match: re.Match[bytes]) -> bytes:
        if match[1] is None:  # a hard reset
            self._is_alternate = False
            return b"\x18" + SOFT_RESET + CLEAR
        modes = match[1].split(b";")
        kept = [mode for mode in modes if mode not in ALTERNATE]
        if len(kept) == len(modes):
            return match.group()
        is_on = match[2] == b"h"
        made = b"\x1b[?" + b";".join(kept) + match[2] if kept else b""
        if is_on != self._is_alternate:
            self._is_alternate = is_on
            self.wants_redraw = self.wants_redraw or not is_on
            made += CLEAR
        return made


class _Raw:
    """The terminal in raw mode, on its alternate screen."""

    def __init__(self) -> None:
        self.input = sys.stdin.fileno()
        self._output = sys.stdout.fileno()
        self.is_open = True
        """Somebody is at the other end of the terminal."""
        self.has_changed = False
        """Its size is another one, or something has been drawn over it."""
        self._saved = termios.tcgetattr(self.input)
        self._is_raw = False
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.wakeup, self._alarm = ours, theirs
        self._signals = _signals(self)

    def __enter__(self) -> _Raw:
        sys.stdout.flush()
        self._signals.__enter__()
        try:
            self.enter()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def _end(self) -> None:
        try:
            self.leave()
        finally:
            self._signals.__exit__(None, None, None)
            self.wakeup.close()
            self._alarm.close()

    def enter(self) -> None:
        """Take the terminal."""
        tty.setraw(self.input, termios.TCSADRAIN)
        if not self._is_raw:
            self._is_raw = True
            self.write(ENTER)
        self.has_changed = True

    def leave(self) -> None:
        """Give it back."""
        if self._is_raw:
            self._is_raw = False
            with suppress(OSError):
                self.write(EXIT_SCREEN)
        with suppress(termios.error):
            termios.tcsetattr(self.input, termios.TCSADRAIN, self._saved)

    def read(self) -> bytes:
        """What was typed."""
        try:
            data = os.read(self.input, CHUNK)
        except OSError:
            data = b""
        self.is_open = bool(data)
        return data

    def write(self, data: bytes) -> None:
        """Show something."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._output, rest) :]
            except BlockingIOError:  # shared with somebody who made it so
                select([], [self._output], [])

    def alarm_fd(self) -> int:
        """Where the interpreter writes when a signal has come."""
        return self._alarm.fileno()

    def calm(self) -> None:
        """Forget that a signal has come."""
        with suppress(BlockingIOError):
            while self.wakeup.recv(64):
                pass


@contextmanager
def _signals(raw: _Raw) -> Iterator[None]:
    """What signals do while the terminal is lent; afterwards they do what they did before."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def pause(_number: int, _frame: FrameType | None) -> None:
        raw.leave()
        # SIGSTOP and not SIGTSTP again: that one is ours now, and the shell shows both alike.
        os.kill(os.getpid(), signal.SIGSTOP)

    def resume(_number: int, _frame: FrameType | None) -> None:
        raw.enter()

    def resize(_number: int, _frame: FrameType | None) -> None:
        raw.has_changed = True

    handlers = {
        signal.SIGINT: leave,
        signal.SIGQUIT: leave,
        signal.SIGTERM: leave,
        signal.SIGHUP: leave,
        signal.SIGTSTP: pause,
        signal.SIGCONT: resume,
        signal.SIGWINCH: resize,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    alarm = signal.set_wakeup_fd(raw.alarm_fd(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(alarm)
        for number, handler in before.items():
            signal.signal(number, handler)
