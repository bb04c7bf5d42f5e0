"""The two shells: commands on the daemon's machine, and in a place that is reached over the network.

Rule: both leave what a run prints in the same file. A place that cannot be reached is asked again as long as it may still be
there: a broken connection says nothing about a run. Once it is known to be gone nothing waits for it: neither a pause between
two tries, nor a connection over which nothing comes any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from oj_daemon.adapters.base import Places
from oj_daemon.adapters.place import PlaceClient
from oj_daemon.errors import AdapterError
from oj_daemon.shell import Found, RunSpec, RunState, ShellRuns

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries to reach a place."""
UNREACHABLE: Final = frozenset({"unreachable", "stopping", "untrusted"})
"""Codes after which the place may still be there."""
GRACE_SECONDS: Final = 5.0
LAST_SECONDS: Final = 0.05
"""For what a place had sent before it was gone and is not read yet; connections of what has died are broken before that."""

T = TypeVar("T")


async def while_there(places: Places, route: Mapping[str, str], work: Awaitable[T]) -> T:
    """What something with a place comes to. Raises what that raises, and AdapterError (gone) when the place has gone first."""
    limit = asyncio.timeout(None)

    async def listen() -> None:
        await places.gone(route)
        limit.reschedule(asyncio.get_running_loop().time() + LAST_SECONDS)

    try:
        async with limit, asyncio.TaskGroup() as group:
            listening = group.create_task(listen())
            try:
                return await work
            finally:
                listening.cancel()
    except TimeoutError:
        raise AdapterError(places.why_gone(route), code="gone") from None
    except ExceptionGroup as error:  # of the work alone: it is told as if there were no group
        raise error.exceptions[0] from error.exceptions[0].__cause__


class LocalShell:
    """Commands as processes of this machine."""

    def __init__(self, runs: ShellRuns) -> None:
        self._runs = runs

    async def start(self, spec: RunSpec) -> None:
        """Start a run unless it was started before. Raises AdapterError."""
        self._runs.start(spec)

    async def wait(self, run_id: str) -> Found:
        """Return once the run, and all that it started, is over."""
        return await self._runs.wait(run_id)

    async def is_over(self, run_id: str) -> bool:
        """Whether it has exited."""
        return self._runs.exit_status(run_id) is not None

    async def end(self, run_id: str, grace_seconds: float | None = None) -> str:
        """End a run and everything it started."""
        left = await self._runs.end(run_id, grace_seconds=grace_seconds)
        return ", ".join(str(process.pid) for process in left)

    async def remove(self, run_id: str) -> None:
        """Remove the run's folder."""
        self._runs.remove(run_id)


class PlaceShell:
    """Commands in a place; what they print is copied to `folder(run_id)/output`."""

    def __init__(
        self, places: Places, route: Mapping[str, str], folder: Callable[[str], Path]
    ) -> None:
        self._places = places
        self._route = route
        self._folder = folder

    async def start(self, spec: RunSpec) -> None:
        """Start a run unless it was started before. Raises AdapterError."""
        await while_there(self._places, self._route, self._start(spec))

    async def _start(self, spec: RunSpec) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                client = await self._places.client(self._route)
                await client.start(
                    spec.run_id, spec.script, env=spec.env, cwd=str(spec.cwd), umask=spec.umask
                )
            except AdapterError as error:
                if error.code not in UNREACHABLE or self._places.why_gone(self._route):
                    raise
                logger.info("run %s: %s; trying again", spec.run_id, error.message)
            else:
                return
            await self._places.gone(self._route, pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def wait(self, run_id: str) -> Found:
        """Copy what the run prints until it is over; LOST, with the reason, as soon as its place is known to be gone."""
        try:
            return await while_there(self._places, self._route, self._wait(run_id))
        except AdapterError as error:
            gone = self._places.why_gone(self._route)
            return Found(RunState.LOST, detail=gone or error.message)

    async def _wait(self, run_id: str) -> Found:
        pause = FIRST_PAUSE
        while True:
            try:
                client = await self._places.client(self._route)
                return await self._follow(client, run_id)
            except AdapterError as error:
                if error.code not in UNREACHABLE or self._places.why_gone(self._route):
                    raise
                logger.info("run %s: %s; trying again", run_id, error.message)
            await self._places.gone(self._route, pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _follow(self, client: PlaceClient, run_id: str) -> Found:
        path = self._folder(run_id) / "output"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        offset = path.stat().st_size if path.exists() else 0
        with contextlib.suppress(FileNotFoundError), path.open("ab", buffering=0) as file:
            while True:
                view = await client.view(run_id)
                if view.state is RunState.NEVER:
                    return Found(RunState.LOST, detail="its place knows nothing of it any more")
                piece = await client.output(run_id, offset)
                if piece.data:
                    file.write(piece.data)
                offset = piece.next_offset
                if piece.is_over:
                    found = await client.view(run_id)
                    return Found(found.state, status=found.status, detail=found.detail)
        return Found(RunState.LOST, detail="its folder was removed")

    async def is_over(self, run_id: str) -> bool:
        """Whether it has exited; an end that cannot be seen has not come."""
        with contextlib.suppress(AdapterError):
            client = await self._places.client(self._route)
            view = await while_there(self._places, self._route, client.view(run_id))
            return view.state is RunState.EXITED
        return False

    async def end(self, run_id: str, grace_seconds: float | None = None) -> str:
        """End a run and everything it started; nothing is left of one whose place is gone."""
        grace = GRACE_SECONDS if grace_seconds is None else grace_seconds
        try:
            await while_there(self._places, self._route, self._end(run_id, grace))
        except AdapterError as error:
            is_gone = self._places.why_gone(self._route) or error.code == "gone"
            return "" if is_gone else error.message
        return ""

    async def _end(self, run_id: str, grace_seconds: float) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                client = await self._places.client(self._route)
                await client.end(run_id, grace_seconds)
            except AdapterError as error:
                if error.code not in UNREACHABLE or self._places.why_gone(self._route):
                    raise
            else:
                return
            await self._places.gone(self._route, pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def remove(self, run_id: str) -> None:
        """Forget a run, there and here; a place that cannot be reached forgets it with its end."""
        with contextlib.suppress(AdapterError):
            if not self._places.why_gone(self._route):
                client = await self._places.client(self._route)
                await client.forget(run_id)
