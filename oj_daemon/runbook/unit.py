"""What one file says before imports are merged: its definitions, the names they refer to, and its problems.

Rule: plain data that parse.py fills and validate.py follows.
"""

from __future__ import annotations

import msgspec

from oj_daemon.runbook.consts import Const
from oj_daemon.runbook.model import AgentDef, CommandDef, CronDef, JobDef, QueueDef, WorkerDef
from oj_daemon.runbook.tree import Problem, Source

KINDS = ("command", "job", "agent", "queue", "worker", "cron")

AnyDef = CommandDef | JobDef | AgentDef | QueueDef | WorkerDef | CronDef


class Ref(msgspec.Struct, frozen=True):
    """A place where a definition is named."""

    kind: str
    name: str
    start: int
    end: int
    where: str


class Supply(msgspec.Struct, frozen=True):
    """A place that starts a job, and the variables that it can give a value."""

    job: str
    names: frozenset[str]
    start: int
    end: int
    where: str


class Import(msgspec.Struct, frozen=True):
    """An `import` block."""

    source: str
    alias: str = ""
    consts: dict[str, str] = {}
    places: dict[str, tuple[int, int]] = {}
    start: int = 0
    end: int = 0


class Unit(msgspec.Struct):
    """One file."""

    source: Source
    problems: list[Problem]
    defs: dict[str, dict[str, AnyDef]] = msgspec.field(
        default_factory=lambda: {kind: {} for kind in KINDS}
    )
    places: dict[tuple[str, str], tuple[int, int]] = {}
    """(kind, name) -> where the name stands, also of definitions that are broken."""
    refs: list[Ref] = []
    supplies: list[Supply] = []
    imports: list[Import] = []
    consts: dict[str, Const] = {}
    help_short: str = ""
    help_long: str = ""
