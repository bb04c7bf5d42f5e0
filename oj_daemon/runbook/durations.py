"""Durations: one grammar for runbooks and the command line.

Rule: a duration is whole numbers with units, one after the other (`1h30m`, `2 days`, `250ms`); a bare number is seconds.
"""

from __future__ import annotations

import re

UNITS = {
    "ms": 1,
    "millis": 1,
    "millisecond": 1,
    "milliseconds": 1,
    "": 1_000,
    "s": 1_000,
    "sec": 1_000,
    "secs": 1_000,
    "second": 1_000,
    "seconds": 1_000,
    "m": 60_000,
    "min": 60_000,
    "mins": 60_000,
    "minute": 60_000,
    "minutes": 60_000,
    "h": 3_600_000,
    "hr": 3_600_000,
    "hrs": 3_600_000,
    "hour": 3_600_000,
    "hours": 3_600_000,
    "d": 86_400_000,
    "day": 86_400_000,
    "days": 86_400_000,
}
MAX_MS = 10 * 366 * 86_400_000
"""Ten years; what is longer is a typing mistake, and clocks and timers need not cope with it."""
PART = re.compile(r"([0-9]+)[ \t]*([A-Za-z]*)[ \t]*")
EXAMPLES = "write for example 90s, 250ms, 1h30m or 2 days"


def parse_ms(text: str) -> int:
    """Milliseconds of a duration; ValueError says what is wrong with it."""
    rest = text.strip(" \t")
    if not rest:
        raise ValueError(f"duration is empty: {EXAMPLES}")
    total, at, parts = 0, 0, 0
    while at < len(rest):
        part = PART.match(rest, at)
        if part is None or len(part.group(1)) > len(str(MAX_MS)):
            raise ValueError(f"`{text}` is not a duration: {EXAMPLES}")
        unit = part.group(2).lower()
        at = part.end()
        parts += 1
        if unit not in UNITS:
            raise ValueError(
                f"unknown unit `{part.group(2)}` in duration `{text}`: use ms, s, m, h or d"
            )
        if not unit and (parts > 1 or at < len(rest)):
            raise ValueError(f"`{text}` is not a duration: every part needs a unit")
        total += int(part.group(1)) * UNITS[unit]
    if total > MAX_MS:
        raise ValueError(f"duration `{text}` is longer than ten years")
    return total
