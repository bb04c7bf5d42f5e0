"""Takes a program's questions to its terminal out of what a person's terminal gets to see.

Rule: pure. The sidecar's own emulator has answered them already; a second answer would be typed into the program.
"""

from __future__ import annotations

import re
from typing import Final

_QUERY: Final = re.compile(
    rb"\x1b\[[>=?]?[\d;]*c"  # device attributes
    rb"|\x1b\[\??[\d;]*n"  # status and cursor position
    rb"|\x1b\[>[\d;]*q"  # name and version
    rb"|\x1b\[\??[\d;]*\$p"  # modes
    rb"|\x1b\[\?u"  # keyboard protocol
    rb"|\x1b\[[\d;]*x"  # terminal parameters
    rb"|\x1b\[(?:1[1-9]|2[01])(?:;[\d;]*)?t"  # window size and title
    rb"|\x1bZ"
    rb"|\x05"
    rb"|\x1b\](?:4;\d+|5;\d+|1[0-9]|52;[a-z0-9]*);\?(?:\x07|\x1b\\)"  # colours, clipboard
    rb"|\x1bP[+$]q[^\x1b\x07]*\x1b\\"  # capabilities and settings
)
_OPEN: Final = re.compile(
    rb"\x1b(?:\[[0-9;?>=$ ]{0,64}|\][^\x07\x1b]{0,64}\x1b?|P[+$]?q?[^\x07\x1b]{0,256}\x1b?)?\Z"
)
"""The beginning of what may become a question in the next piece."""


class QueryFilter:
    """Filters a stream that comes in pieces cut anywhere."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What of these and earlier bytes may be shown."""
        data = _QUERY.sub(b"", self._held + data)
        begun = _OPEN.search(data, max(0, len(data) - 400))
        if begun is None:
            self._held = b""
            return data
        self._held = data[begun.start() :]
        return data[: begun.start()]
