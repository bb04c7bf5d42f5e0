"""Work of the sidecar that runs beside everything else.

Rule: what fails here is logged and ends nothing; what is to be carried through does not depend on who asked for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TypeVar

from oj_daemon.errors import OjError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Spawn = Callable[[Coroutine[object, object, None]], object]


class Tasks:
    """The tasks of one program; `group` is set before the first."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self.group: asyncio.TaskGroup

    def spawn(self, work: Coroutine[object, object, None]) -> object:
        """Run something beside everything else; its failure is logged and ends nothing."""
        task = self.group.create_task(_guarded(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def cancel(self) -> None:
        """Let go of what still runs."""
        for task in tuple(self._running):
            task.cancel()


async def through(spawn: Spawn, work: Coroutine[object, object, T]) -> T:
    """The result of something that is carried through even when whoever asked goes away in the middle."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    async def carry() -> None:
        try:
            result = await work
        except BaseException as error:
            if not future.done():
                future.set_exception(error)
            if not isinstance(error, OjError):
                raise
        else:
            if not future.done():
                future.set_result(result)

    spawn(carry())
    return await future


async def _guarded(work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except Exception:  # the boundary of a task: a bug costs one deed, not the agent
        logger.exception("a task of the sidecar failed")
