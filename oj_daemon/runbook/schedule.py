"""Cron expressions: five fields, checked when a runbook is loaded.

Rule: says whether an expression can be; when it fires next is computed elsewhere.
"""

from __future__ import annotations

import re

FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 7),
)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
ITEM = re.compile(r"(\*|[0-9]{1,4}|[A-Za-z]{3})(?:-([0-9]{1,4}|[A-Za-z]{3}))?(?:/([0-9]{1,4}))?")


class ScheduleError(ValueError):
    """An expression that cannot be; `start` and `end` are offsets in its text."""

    def __init__(self, message: str, start: int, end: int, hint: str = "") -> None:
        super().__init__(message)
        self.start = start
        self.end = end
        self.hint = hint


def check(text: str) -> list[set[int]]:
    """The values that each of the five fields allows."""
    words = list(re.finditer(r"\S+", text))
    if len(words) != len(FIELDS):
        hint = "minute, hour, day of month, month, day of week, as in 0 7 * * 1-5"
        raise ScheduleError(
            f"a cron expression has five fields, this has {len(words)}", 0, max(1, len(text)), hint
        )
    found = [_field(word, *field) for word, field in zip(words, FIELDS, strict=True)]
    days, months = found[2], found[3]
    if all(min(days) > LONGEST_MONTHS[month - 1] for month in months) and words[4].group() == "*":
        raise ScheduleError(
            "there is no such day in these months", words[2].start(), words[3].end()
        )
    return found


def _field(word: re.Match[str], name: str, least: int, most: int) -> set[int]:
    values: set[int] = set()
    at = word.start()
    for part in word.group().split(","):
        item = ITEM.fullmatch(part)
        if item is None:
            raise ScheduleError(
                f"`{part}` cannot be a {name}",
                at,
                at + max(1, len(part)),
                "write *, 5, 1-5, */15 or 1,3",
            )
        first, last, every = item.groups()
        if first == "*":
            if last is not None:
                raise ScheduleError(f"`{part}` cannot be a {name}", at, at + len(part))
            low, high = least, most
        else:
            low = _number(first, name, least, most, at)
            high = low if last is None else _number(last, name, least, most, at)
            if every is not None and last is None:
                high = most
        step = 1 if every is None else int(every)
        if step == 0 or low > high:
            message = (
                f"step of {name} is 0" if step == 0 else f"range `{part}` of {name} runs backwards"
            )
            raise ScheduleError(message, at, at + len(part))
        values |= set(range(low, high + 1, step))
        at += len(part) + 1
    return values


def _number(text: str, name: str, least: int, most: int, at: int) -> int:
    names = MONTHS if name == "month" else DAYS if name == "day of week" else ()
    if text.isdigit():
        value = int(text)
    elif text.lower() in names:
        value = names.index(text.lower()) + least
    else:
        raise ScheduleError(f"`{text}` cannot be a {name}", at, at + len(text), ", ".join(names))
    if not least <= value <= most:
        raise ScheduleError(f"{name} {text} is not between {least} and {most}", at, at + len(text))
    return value


def is_timezone(name: str) -> bool:
    """Whether a time zone of this name is known."""
    import zoneinfo  # noqa: PLC0415  only files with a time zone pay for it

    if name == "UTC":
        return True
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True
