"""Durations, ages and times as people read and type them.

Rule: pure, but for `now_ms`, the clock of the screen; nothing that is recorded comes from it.
"""

from __future__ import annotations

import re
import time

from oj_daemon.errors import OjError

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
UNITS = {"d": DAY, "h": HOUR, "m": MINUTE, "s": 1}


def now_ms() -> int:
    """Now, to show how long ago something was."""
    return time.time_ns() // 1_000_000


def elapsed(ms: int) -> str:
    """An age in few characters: `42s`, `5m`, `2h5m`, `3d`; `-` when it is not known."""
    if ms < 0:
        return "-"
    seconds = ms // 1000
    if seconds < MINUTE:
        return f"{seconds}s"
    if seconds < HOUR:
        return f"{seconds // MINUTE}m"
    if seconds < DAY:
        minutes = seconds % HOUR // MINUTE
        return f"{seconds // HOUR}h{minutes}m" if minutes else f"{seconds // HOUR}h"
    return f"{seconds // DAY}d"


def since(at_ms: int, now: int) -> str:
    """The age of a moment; `-` for 0, which stands for never."""
    return elapsed(max(0, now - at_ms)) if at_ms else "-"


def duration(ms: int) -> str:
    """How long a step took: `12s`, `3m 5s`, `2h 10m`."""
    seconds = max(0, ms) // 1000
    if seconds < MINUTE:
        return f"{seconds}s"
    if seconds < HOUR:
        return f"{seconds // MINUTE}m {seconds % MINUTE}s"
    return f"{seconds // HOUR}h {seconds % HOUR // MINUTE}m"


def uptime(seconds: int) -> str:
    """How long the daemon has been running: `5s`, `2m 5s`, `1h 2m 5s`."""
    hours, rest = divmod(max(0, seconds), HOUR)
    minutes, seconds = divmod(rest, MINUTE)
    parts = [f"{hours}h"] if hours else []
    if hours or minutes:
        parts.append(f"{minutes}m")
    return " ".join([*parts, f"{seconds}s"])


def moment(at_ms: int) -> str:
    """A moment in local time, to the second; `-` for 0."""
    if not at_ms:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def parse_duration(text: str) -> float:
    """Seconds of `1h30m`, `45s`, or a bare number; zero and everything else is an error."""
    parts = re.findall(r"(\d+)([dhms])", text)
    if text.isascii() and text.isdigit():
        seconds = int(text)
    elif parts and "".join(number + unit for number, unit in parts) == text:
        seconds = sum(int(number) * UNITS[unit] for number, unit in parts)
    else:
        message = f"'{text}' is not a duration"
        raise OjError(message, code="invalid", hint="write it like 30s, 5m or 1h30m")
    if seconds <= 0:
        message = f"'{text}' is not a duration: it must be more than zero"
        raise OjError(message, code="invalid", hint="write it like 30s, 5m or 1h30m")
    return seconds
