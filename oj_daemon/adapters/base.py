"""What the executor needs of whatever runs things: the shell of a place, and the runtime that makes places.

Rule: protocols and plain values only. A run's name means one run for ever; what it prints is found in a file on the daemon's
machine, wherever it runs, so logs are written in one way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from oj_daemon.adapters.place import PlaceClient
from oj_daemon.core.effects import CreateWorkspace, DeleteWorkspace
from oj_daemon.shell import Found, RunSpec


class Shell(Protocol):
    """Runs the commands of one place."""

    async def start(self, spec: RunSpec) -> None:
        """Start a run unless it was started before. Raises AdapterError."""
        ...

    async def wait(self, run_id: str) -> Found:
        """Return once the run, and all that it started, is over; its output grows meanwhile."""
        ...

    async def is_over(self, run_id: str) -> bool:
        """Whether it has exited."""
        ...

    async def end(self, run_id: str, grace_seconds: float | None = None) -> str:
        """End a run and everything it started; returns what could not be ended, in words."""
        ...

    async def remove(self, run_id: str) -> None:
        """Forget a run that is over."""
        ...


class PlaceReady(NamedTuple):
    """A place that can be worked in."""

    route: Mapping[str, str]
    """How it is found again."""
    base: str = ""
    """Commit that the workspace's branch started from."""
    notes: tuple[str, ...] = ()
    """What people should know, for the job's log."""


class Places(Protocol):
    """A runtime that makes places: pods, containers."""

    name: str
    """As in the facts."""
    environ: Mapping[str, str]
    """What every command in a place gets, such as the way back to this daemon."""

    async def ready(self, wanted: CreateWorkspace) -> PlaceReady:
        """Make the place, or find it where its route says; one that is gone is made again. Raises AdapterError."""
        ...

    async def client(self, route: Mapping[str, str]) -> PlaceClient:
        """The way to a place that is there. Raises AdapterError (gone) when it is not."""
        ...

    def why_gone(self, route: Mapping[str, str]) -> str:
        """What became of a place, in words; empty while it may still be there."""
        ...

    async def gone(self, route: Mapping[str, str], seconds: float | None = None) -> str:
        """The same as soon as there is something to say; or empty, after so many seconds."""
        ...

    async def remove(self, order: DeleteWorkspace) -> str:
        """Remove a place; returns what was kept of it and where, in words. Raises AdapterError."""
        ...

    checkpoint_seconds: float
    """How often what agents have not pushed is saved."""

    async def checkpoint(self, place: CreateWorkspace, route: Mapping[str, str]) -> None:
        """Save what in a place is nowhere else. Raises AdapterError."""
        ...

    on_status: Callable[[str, str], None]
    """Told what the place of an owner waits for, whenever that changes; empty: for nothing any more."""
