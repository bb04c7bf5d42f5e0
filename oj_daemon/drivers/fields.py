"""JSON that others wrote: fields of the wrong type or none at all are as good as absent.

Rule: these never raise, whatever is in a payload or a line.
"""

from __future__ import annotations

import json

import msgspec

from oj_daemon.drivers.base import Json, Signal


def amend(signal: Signal, **changes: object) -> Signal:
    """Return a signal with other fields."""
    return msgspec.structs.replace(signal, **changes)


def load(text: str) -> dict[str, object]:
    """Return the JSON object in a text, an empty one when there is none."""
    if not text.lstrip().startswith("{"):
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def as_text(value: object) -> str:
    """Return a text, "" for anything else."""
    return value if isinstance(value, str) else ""


def as_number(value: object) -> int:
    """Return a whole number that is not negative, 0 for anything else."""
    return (
        int(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        else 0
    )


def compact(value: object) -> str:
    """Return a value as JSON in one line, "" for null; equal values are equal texts.

    The log and the hooks of one program write the same object with its keys in another order.
    """
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def pretty(value: Json) -> str:
    """Return an object as JSON for a file."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
