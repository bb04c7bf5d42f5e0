"""`oj-sidecar --place`: a whole container or pod, in which the steps of a job and the sidecars of its agents run.

Rule: it lives until it is told to end, whoever else comes and goes, and then ends everything that descends from it. It may be
process 1: what others left behind is collected here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import ssl
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from aiohttp import web

from oj_daemon import processes
from oj_daemon.build import identity
from oj_daemon.processes import Process
from oj_daemon.settings import Secret
from oj_daemon.sidecar import entrance, options
from oj_daemon.sidecar.admission import Tokens
from oj_daemon.sidecar.exec import Execs
from oj_daemon.sidecar.files import Files
from oj_daemon.sidecar.options import Options
from oj_daemon.sidecar.place_api import PlaceServer
from oj_daemon.sidecar.relay import Relay
from oj_daemon.sidecar.steps import Steps
from oj_daemon.sidecar.tasks import Tasks, through

logger = logging.getLogger(__name__)

T = TypeVar("T")

EXIT_IMPATIENT: Final = 130
FLUSH_SECONDS: Final = 2.0
"""How long clients get to read the last replies."""
POLL_SECONDS: Final = 0.05
HOPELESS_SECONDS: Final = 10.0
"""Seconds of KILL after which a process is given up: it is stuck in the kernel."""


class Place:
    """The running program."""

    def __init__(self, chosen: Options, environ: Mapping[str, str], folder: Path) -> None:
        self._chosen = chosen
        self._ending = asyncio.Event()
        self._is_impatient = False
        self._tasks = Tasks()
        self._began = asyncio.get_running_loop().time()
        self._boot = secrets.token_hex(6)
        env = options.without_ours(environ)
        self._execs = Execs(folder / "exec", env, self._tasks.spawn, Path.cwd())
        parts = Steps(self, self._execs), Files(folder), Relay(folder)
        tokens = Tokens(chosen.token, Secret(""))
        self._server = PlaceServer(self, parts, tokens, needs_certificate=bool(chosen.client_ca))

    # -- what its API asks for -------------------------------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """It was told to end."""
        return self._ending.is_set()

    async def through(self, work: Coroutine[object, object, T]) -> T:
        """The result of something that is carried through whoever goes away."""
        return await through(self._tasks.spawn, work)

    def health(self) -> dict[str, object]:
        """That it lives, and since when: after a restart nothing that ran before runs any more."""
        return {
            "status": "stopping" if self.is_stopping else "running",
            "place": True,
            "ready": not self.is_stopping,
            "boot": self._boot,
            "pid": os.getpid(),
            "uptime_secs": int(asyncio.get_running_loop().time() - self._began),
            "version": identity(),
        }

    def end(self) -> None:
        """Begin the end; the API answers until everything is gone."""
        self._ending.set()

    # -- from beginning to end -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until told to end, end everything."""
        self._listen_to_signals()
        context = entrance.tls_context(self._chosen)
        with contextlib.ExitStack() as opened:
            made, _ = entrance.bind(self._chosen, opened)
            async with asyncio.TaskGroup() as group:
                self._tasks.group = group
                await self._serve(made, context)
        logger.info("place ends")

    async def _serve(self, made: Sequence[socket.socket], context: ssl.SSLContext | None) -> None:
        self._execs.recover()
        runner = web.AppRunner(
            self._server.application(),
            access_log=None,
            handle_signals=False,
            # What is passed on must not wait for an answer that nobody wants any more, nor be unpacked on the way.
            handler_cancellation=True,
            auto_decompress=False,
            shutdown_timeout=FLUSH_SECONDS,
        )
        await runner.setup()
        try:
            for each in made:
                tls = None if each.family == socket.AF_UNIX else context
                await web.SockSite(runner, each, ssl_context=tls).start()
            logger.info("place ready", extra={"boot": self._boot})
            await self._ending.wait()
            await self._end_everything(self._chosen.delays.shutdown_timeout_ms / 1000)
        finally:
            await runner.cleanup()
            self._tasks.cancel()

    async def _end_everything(self, grace_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_seconds
        await self._execs.end_all(grace_seconds)
        left = await _end_descendants(max(deadline - loop.time(), 0.0))
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            logger.error("processes of the place do not end: %s", pids)

    def _listen_to_signals(self) -> None:
        # At once: the kernel drops what process 1 has no handler for.
        loop = asyncio.get_running_loop()

        def told() -> None:
            if self._is_impatient:
                for process in _descendants():
                    with contextlib.suppress(PermissionError):
                        processes.send(process, signal.SIGKILL, pidfd=processes.has_pidfd())
                os._exit(EXIT_IMPATIENT)
            self._is_impatient = True
            self.end()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told)
        loop.add_signal_handler(signal.SIGHUP, self.end)
        loop.add_signal_handler(signal.SIGCHLD, self._collect)

    def _collect(self) -> None:
        processes.collect_orphans(self._execs.wrappers)


async def run(chosen: Options, environ: Mapping[str, str], folder: Path) -> int:
    """Serve a place; its exit code."""
    await Place(chosen, environ, folder).run()
    return 0


def _descendants() -> Sequence[Process]:
    """Everything that lives below this process."""
    everyone = processes.table()
    mine = [process for process in everyone.values() if process.ppid == os.getpid()]
    return processes.family(everyone, roots=mine)


async def _end_descendants(grace_seconds: float) -> Sequence[Process]:
    """TERM, then KILL, whatever still lives below us, until nothing does; returns what could not be ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_seconds
    has_pidfd = processes.has_pidfd()
    asked: set[Process] = set()
    while left := _descendants():
        is_patient = loop.time() < deadline
        if loop.time() > deadline + HOPELESS_SECONDS:
            return left
        # CONT, because a stopped process does not hear TERM.
        numbers = (signal.SIGTERM, signal.SIGCONT) if is_patient else (signal.SIGKILL,)
        for process in left:
            if not is_patient or process not in asked:
                asked.add(process)
                with contextlib.suppress(PermissionError):
                    processes.send(process, *numbers, pidfd=has_pidfd)
        await asyncio.sleep(POLL_SECONDS)
    return ()
