"""Text of others, made fit for a terminal.

Rule: pure, and standard library only. What agents, steps and runbooks write can hold anything; nothing of it may act on the
terminal that shows it, or take more columns than it was given.
"""

from __future__ import annotations

import re
from typing import Final

ELLIPSIS: Final = "…"
SGR: Final = r"\x1b\[[0-9;:]*m"
CONTROL: Final = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
"""Not compiled here: only terminals need them, and that costs 1 ms."""


def visible(text: str) -> str:
    """`text` without colours and with control characters made visible, so that it cannot act on a terminal."""
    if text.isprintable():
        return text
    return re.sub(CONTROL, _picture, re.sub(SGR, "", text))


def safe(text: str, room: int, *, coloured: bool) -> str:
    """`text`, at most `room` columns of it, with its colours if wanted and without any other power over a terminal."""
    made = []
    # Every second part is a colour.
    for at, part in enumerate(re.split(f"({SGR})", text)):
        if at % 2:
            made.append(part if coloured else "")
            continue
        shown = cut(visible(part), room)
        room -= width(shown)
        made.append(shown)
        if room <= 0:
            break
    return "".join([*made, "\x1b[0m" if coloured else ""])


def width(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import category, combining, east_asian_width  # noqa: PLC0415 - only for text beyond ASCII

    total = 0
    for char in text:
        if combining(char) or category(char) in ("Mn", "Me", "Cf"):
            continue
        total += 2 if east_asian_width(char) in "WF" else 1
    return total


def cut(text: str, room: int) -> str:
    """`text`, ending in an ellipsis if it is wider than `room` columns."""
    if width(text) <= room:
        return text
    if room <= 0:
        return ""
    kept = ""
    used = 0
    for char in text:
        used += width(char)
        if used > room - 1:
            break
        kept += char
    return kept + ELLIPSIS


def one_line(text: str) -> str:
    """`text` with line breaks and tabs made visible: a cell is one line."""
    if text.isprintable():
        return text
    return text.replace("\r\n", "\\n").replace("\n", "\\n").replace("\r", "\\n").replace("\t", " ")


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return f"^{chr(code + 0x40)}"
    return "^?" if code == 0x7F else f"\\u{code:04x}"
