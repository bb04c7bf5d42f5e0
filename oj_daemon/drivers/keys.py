"""Keys that terminal programs understand, and how a message is typed.

Rule: bytes out of text, nothing else. A message can never press keys: control characters are left out.
"""

from __future__ import annotations

from typing import Final

from oj_daemon.drivers.base import Keys, Pacing, Step

PASTE: Final = (b"\x1b[200~", b"\x1b[201~")
ENTER: Final = b"\r"
ESCAPE: Final = b"\x1b"
UP: Final = b"\x1b[A"
DOWN: Final = b"\x1b[B"


def typed(text: str, pacing: Pacing) -> Keys:
    """Return the keys for a text and Enter. Control characters are left out: a message cannot press keys."""
    clean = "".join(c for c in text if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f"))
    data = clean.encode()
    if pacing.bracketed_paste and "\n" in clean:
        data = PASTE[0] + data + PASTE[1]
    return (Step(data, pacing.pause(len(data))), Step(ENTER))
