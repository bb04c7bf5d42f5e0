"""What an agent has done, in the words of its log: a file read, a command run, a turn completed.

Rule: a table of readers by driver; a driver whose program keeps no session log has none, and nothing is told about it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from importlib import import_module
from typing import Final, NamedTuple, cast

from oj_daemon.drivers.base import Json


class Deed(StrEnum):
    """Kinds of activity; all but RESULT begin a line of the log."""

    READ = "read"
    WROTE = "wrote"
    EDITED = "edited"
    BASH = "bash"
    OJ = "oj"
    TURN = "turn complete"
    ERROR = "error"
    RESULT = "result"
    """How the command with the same key ended."""


class Activity(NamedTuple):
    """One thing that was done."""

    deed: Deed
    text: str = ""
    key: str = ""
    """Of a command, and of its result."""


Read = Callable[[Json], list[Activity]]
READERS: Final = {"claude": "oj_daemon.drivers.claude_activity:read"}


def reader_of(driver: str) -> Read:
    """Return what reads the entries of that driver's session log."""
    target = READERS.get(driver)
    if target is None:
        return _nothing
    module, _, attribute = target.partition(":")
    return cast("Read", getattr(import_module(module), attribute))


def _nothing(entry: Json) -> list[Activity]:  # noqa: ARG001 - as every reader
    return []
