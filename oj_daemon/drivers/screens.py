"""Reading a text screen: option lists, the lines that matter, error words. For all drivers.

Rule: lines in, values out; what a program means by them is its driver's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from oj_daemon.drivers.base import ErrorCategory

OPTION: Final = re.compile(
    r"^\s*(?P<mark>[\u276f>])?\s*(?P<number>\d{1,2})[.)]\s+(?P<label>\S.*?)\s*$"
)
MARKED: Final = re.compile(r"^\s*\u276f\s(?P<label>\S.*)$")
BOX: Final = re.compile(r"^\[(.)\]\s*")
RULE: Final = re.compile(r"^\s*[─━]{10,}\s*$")

CATEGORIES: Final = (
    (ErrorCategory.OUT_OF_CREDITS, ("credit", "billing", "quota exceeded", "insufficient funds")),
    (
        ErrorCategory.UNAUTHORIZED,
        ("authenticat", "unauthorized", "api key", "401", "403", "log in", "/login", "oauth"),
    ),
    (
        ErrorCategory.RATE_LIMITED,
        ("rate limit", "rate_limit", "429", "usage limit", "too many requests"),
    ),
    (
        ErrorCategory.NO_INTERNET,
        (
            "timeout",
            "timed out",
            "enotfound",
            "econn",
            "eai_again",
            "dns",
            "network",
            "connection",
            "fetch failed",
        ),
    ),
    (
        ErrorCategory.SERVER_ERROR,
        ("overloaded", "server error", "server_error", "500", "502", "503", "504", "529"),
    ),
)


def error_category(text: str) -> ErrorCategory:
    """Return what kind of error a message speaks of."""
    low = text.lower()
    for category, words in CATEGORIES:
        if any(word in low for word in words):
            return category
    return ErrorCategory.OTHER


def last_lines(lines: Sequence[str], count: int) -> list[str]:
    """Return the last `count` lines that are not blank."""
    found: list[str] = []
    for line in reversed(lines):
        if line.strip():
            found.append(line.rstrip())
            if len(found) == count:
                break
    return found[::-1]


def read_menu(lines: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Return the options of a list without numbers, found by its mark, and the number that is marked."""
    for row in range(len(lines) - 1, -1, -1):
        found = MARKED.match(lines[row])
        if found is None:
            continue
        column = found.start("label")
        first, last = row, row
        while first > 0 and _stands_at(lines[first - 1], column):
            first -= 1
        while last + 1 < len(lines) and _stands_at(lines[last + 1], column):
            last += 1
        labels = tuple(line[column:].strip() for line in lines[first : last + 1])
        return labels, row - first + 1
    return (), 0


def _stands_at(line: str, column: int) -> bool:
    return len(line) > column and not line[:column].strip() and not line[column].isspace()


def read_options(lines: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """Return the lowest list of numbered options that starts with 1, and the number that is marked (0: none)."""
    options: list[str] = []
    selected = 0
    for line in lines:
        found = OPTION.match(line)
        if found is None:
            continue
        number = int(found["number"])
        if number == 1:
            options, selected = [], 0
        if number != len(options) + 1:
            continue
        options.append(BOX.sub("", found["label"]).removesuffix("✔").rstrip())
        if found["mark"]:
            selected = number
    return tuple(options), selected
