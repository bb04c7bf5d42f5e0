"""Every exception that `oj` raises on purpose.

Rule: the class says who is at fault, `code` tells cases of one class apart, `hint` is the next command to type.
"""

from __future__ import annotations


class OjError(Exception):
    """An error with a sentence for people.

    `message` says what was attempted and what went wrong. `code` is a stable word for programs (wire errors use
    not_found, ambiguous, invalid, conflict, unauthorized, unavailable, internal). `hint` says what to do next.
    """

    def __init__(self, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class Rejected(OjError):
    """The caller asked for what cannot be; state is untouched."""


class RunbookError(OjError):
    """The runbook is wrong; `message` holds every problem with file, line and caret."""


class AdapterError(OjError):
    """The outside world failed while an order was carried out; becomes the failure fact of that order."""


class WireError(OjError):
    """A frame, a version, a token or the connection itself is wrong, or no daemon answers."""


class StoreError(OjError):
    """Our own durability broke: the daemon ends rather than limp on."""
