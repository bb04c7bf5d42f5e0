"""What whoever looks after the daemon can ask over HTTP, and what the daemon has to say for it.

Rule: answers from before the log is read, or the daemon is elected, until the log is closed. A port that was asked for by name
can be had, or the daemon ends; of one that the profile chose there is a warning.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from oj_daemon.build import identity
from oj_daemon.errors import OjError
from oj_daemon.readiness import Readiness
from oj_daemon.settings import Settings

if TYPE_CHECKING:
    from oj_daemon.metrics import Metrics

logger = logging.getLogger(__name__)


class Probes:
    """The HTTP port of one daemon, where there is one."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._warned: tuple[str, ...] | None = None
        """None: nobody answers yet."""
        self.readiness = Readiness("log", "lease")
        self.metrics: Metrics | None = None
        if config.http_port is not None:
            from oj_daemon.metrics import Metrics  # noqa: PLC0415 - 30 ms, for whoever can be scraped

            self.metrics = Metrics(self.readiness, identity())

    def on_lease(self, is_held: bool, reason: str) -> None:
        """News of the election."""
        self.readiness.set("lease", is_held, reason)

    def note_api_call(self, verb: str, status: int, seconds: float) -> None:
        """A request to the API server of a cluster."""
        if self.metrics is not None:
            self.metrics.note_api_call(verb, str(status), seconds)

    @contextlib.asynccontextmanager
    async def answering(self) -> AsyncIterator[tuple[str, ...]]:
        """Answer while the block runs, unless an outer block does; gives what everybody should be told. Raises OjError."""
        if self._warned is not None:
            yield self._warned
            return
        async with contextlib.AsyncExitStack() as opened:
            self._warned = await self._open(opened)
            try:
                yield self._warned
            finally:
                self._warned = None

    async def _open(self, opened: contextlib.AsyncExitStack) -> tuple[str, ...]:
        config = self._config
        if config.http_port is None or self.metrics is None:
            return ()
        from oj_daemon import health  # noqa: PLC0415 - aiohttp, 250 ms

        is_named = any(
            choice.name == "http_port" and choice.reason == "OJ_HTTP_PORT"
            for choice in config.reasons
        )
        try:
            await opened.enter_async_context(
                health.serve(config.http_bind, config.http_port, self.readiness, self.metrics)
            )
        except OjError as exc:
            if is_named:
                raise
            logger.warning("%s", exc.message)
            return (exc.message,)
        return ()
