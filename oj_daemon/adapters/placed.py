"""Agents in places: each in a sidecar of its own that the place runs like a step, reached through the place's relay.

Rule: as in local.py, which does the same on this machine: the sidecar is a run, claimed once and found again by its name. The
route of an agent is that of its place; below it, the agent's id says the rest.

    <session folder of the place>/agents/<agent id>/config.json   what the sidecar is told
                                                    session/      the sidecar's own files
                                                    sock          its API
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from oj_daemon.adapters.base import Places
from oj_daemon.adapters.local import LINGER_SECONDS, READY_SECONDS, config_of, settings_file
from oj_daemon.adapters.place import PlaceClient
from oj_daemon.adapters.saved import LOST, SavedLogs
from oj_daemon.adapters.session import Ear, Session
from oj_daemon.adapters.shells import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    UNREACHABLE,
    PlaceShell,
    while_there,
)
from oj_daemon.core import events
from oj_daemon.core.effects import SpawnAgent
from oj_daemon.errors import AdapterError, OjError
from oj_daemon.shell import RunState
from oj_daemon.wire.names import AgentId, JobId

if TYPE_CHECKING:
    from aiohttp import ClientSession

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2
READ_MOST: Final = 1 << 20
"""Bytes of a file of the workspace that the agent's configuration is made from."""
LOG_TAIL: Final = 2000


class PlacedAgents:
    """Starts, finds, steers and ends agents in the places of one runtime."""

    def __init__(
        self,
        places: Places,
        folder: Path,
        environ: Callable[[JobId, AgentId], Mapping[str, str]],
        conversation: Callable[[JobId, str], bytes | None],
    ) -> None:
        self._places = places
        self._folder = folder
        self._logs = SavedLogs(folder)
        self._environ = environ
        self._conversation = conversation
        """What the last look at a session left of it, which may be more than was saved turn by turn."""
        self._is_up: dict[AgentId, bool] = {}
        """What was last seen of each agent that is followed."""

    async def spawn(
        self, order: SpawnAgent, route: Mapping[str, str]
    ) -> tuple[dict[str, str], str, str]:
        """Start the session in a place that is ready, or find it there; its route and conversation, and what people
        should know. A place that cannot be reached is asked again as long as it may be there. Raises AdapterError.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                return await while_there(self._places, route, self._spawn(order, route))
            except AdapterError as error:
                if error.code not in UNREACHABLE or self._places.why_gone(route):
                    raise
                logger.info("agent %s: %s; trying again", order.agent_id, error.message)
            await self._places.gone(route, pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _spawn(
        self, order: SpawnAgent, route: Mapping[str, str]
    ) -> tuple[dict[str, str], str, str]:
        run_id = _run_id(order.agent_id, order.job_id)
        client = await self._places.client(route)
        view = await client.view(run_id)
        note = ""
        if view.state is RunState.NEVER:
            if order.route:
                raise AdapterError("its session is gone", code="gone")
            saved = self._logs.find(order, route)
            kept = self._conversation(order.job_id, order.session_id) if order.session_id else None
            if kept is not None and len(kept) > len(saved):
                saved = kept
            if saved is LOST:
                note = "its conversation was lost with its place: it begins anew"
                order, saved = msgspec.structs.replace(order, session_id="", message=""), b""
            await self._begin(order, run_id, client, saved)
        elif view.state is not RunState.RUNNING and order.route:
            raise AdapterError(f"its session is gone: {view.detail or 'it has ended'}", code="gone")
        try:
            health = await self._ready(order, run_id, client)
        except AdapterError as error:
            if not order.route and error.code not in UNREACHABLE:
                with contextlib.suppress(AdapterError):
                    await client.end(run_id, 1.0)
                    await client.forget(run_id)
            raise
        # Remembered here so that what the book holds about it is found when the job is pruned.
        (self._folder / order.job_id / order.agent_id).mkdir(
            mode=0o700, parents=True, exist_ok=True
        )
        session_id = str(health.get("session_id") or "")
        self._logs.note(order, session_id, route)
        return dict(route), session_id, note

    async def _begin(
        self, order: SpawnAgent, run_id: str, client: PlaceClient, saved: bytes
    ) -> None:
        reads: dict[str, str] = {}
        for number, path in enumerate(_wanted_files(order)):
            # A read that a dead daemon left behind is found again by its name, and so has to be of the same file.
            text = await _read(client, f"{run_id}.read{number}", path)
            if text is not None:
                reads[path] = text
        config = config_of(order, reads.get)
        if saved:
            at = await client.put_file(f"agents/{order.agent_id}/saved.jsonl", saved)
            config["transcript"] = str(at)
        data = msgspec.json.encode(config)
        at = await client.put_file(f"agents/{order.agent_id}/config.json", data)
        folder = at.parent
        words = [
            "oj-sidecar",
            "--socket", str(folder / "sock"), "--agent", order.driver, "--agent-config", str(at),
            "--session-dir", str(folder / "session"), "--cwd", order.cwd, "--log-format", "text",
            "--exit-with-child", str(LINGER_SECONDS),
        ]  # fmt: skip
        if order.session_id:
            words += ["--resume", order.session_id]
        command = ["bash", "-c", f'{order.script.rstrip()} "$@"', "agent"]
        exec_ = " ".join(shlex.quote(word) for word in [*words, "--", *command])
        script = f"mkdir -p {shlex.quote(str(folder / 'session'))}\nexec {exec_}"
        env = {**self._environ(order.job_id, order.agent_id), **order.prime_env, **order.env}
        await client.start(run_id, script, env=env, cwd="/")

    async def _ready(
        self, order: SpawnAgent, run_id: str, client: PlaceClient
    ) -> dict[str, object]:
        session = Session(order.agent_id, client.agent(order.agent_id), lambda: True)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                return await session.ask("GET", "health")
            except AdapterError as error:
                view = await client.view(run_id)
                if view.state is not RunState.RUNNING or time.monotonic() > deadline:
                    said = await self._last_words(client, run_id)
                    raise AdapterError(
                        f"the sidecar did not come up: {said}", code="spawn"
                    ) from error
            await asyncio.sleep(POLL_SECONDS)

    async def _last_words(self, client: PlaceClient, run_id: str) -> str:
        text = b""
        with contextlib.suppress(AdapterError):
            view = await client.view(run_id)
            start = max(0, view.output_size - LOG_TAIL)
            text = (await client.output(run_id, start, seconds=0)).data
        return text.decode("utf-8", "replace").strip() or "it said nothing"

    def session(self, agent_id: AgentId, route: Mapping[str, str]) -> Session:
        """The client of a sidecar that was found before."""
        return Session(
            agent_id,
            _Lazy(self._places, agent_id, route),
            lambda: self._is_up.get(agent_id, True) and not self._places.why_gone(route),
            lambda seconds: self._places.gone(route, seconds),
        )

    async def follow(
        self,
        order: SpawnAgent,
        route: Mapping[str, str],
        report: Callable[[events.AgentEvent], None],
        ear: Ear | None = None,
    ) -> events.AgentExited:
        """Report what the agent does until it has exited, or its place is gone."""
        session = self.session(order.agent_id, route)
        self._is_up[order.agent_id] = True
        keeper = self._logs.keeper(order, route, session)

        def hear(fact: events.AgentEvent) -> None:
            keeper.hear(fact)
            report(fact)

        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch(order, route))
                keeping = group.create_task(keeper.run())
                try:
                    following = session.follow(order.seq, hear, ear)
                    exited = await while_there(self._places, route, following)
                except AdapterError as error:
                    exited = events.AgentExited(agent_id=order.agent_id, reason=error.message)
                watching.cancel()
                keeping.cancel()
        finally:
            self._is_up.pop(order.agent_id, None)
        gone = self._places.why_gone(route)
        return msgspec.structs.replace(exited, reason=gone) if gone else exited

    async def _watch(self, order: SpawnAgent, route: Mapping[str, str]) -> None:
        """Notice the end of the sidecar itself: what it cannot tell any more."""
        run_id = _run_id(order.agent_id, order.job_id)
        pause = FIRST_PAUSE
        while not self._places.why_gone(route):
            try:
                client = await self._places.client(route)
                view = await client.wait(run_id)
                pause = FIRST_PAUSE
            except AdapterError as error:
                if error.code not in UNREACHABLE:
                    break
                await self._places.gone(route, pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if view.state is not RunState.RUNNING:
                    break
        self._is_up[order.agent_id] = False

    async def end(
        self, agent_id: AgentId, job_id: JobId, route: Mapping[str, str], *, is_alone: bool
    ) -> str:
        """End the session and everything it started; returns its conversation, where it is known.

        One that is not alone in its place is waited for as long as that may be there; else its place goes next anyway.
        """
        session_id = ""
        if not route or self._places.why_gone(route):
            return session_id
        run_id = _run_id(agent_id, job_id)
        with contextlib.suppress(OjError, TimeoutError):
            async with asyncio.timeout(5):
                health = await self.session(agent_id, route).ask("GET", "health")
                session_id = str(health.get("session_id") or "")
                await self.session(agent_id, route).ask("POST", "shutdown", {})
        if is_alone:
            with contextlib.suppress(AdapterError):
                client = await self._places.client(route)
                await while_there(self._places, route, client.end(run_id, 5.0))
            return session_id
        shell = PlaceShell(self._places, route, lambda _: self._folder)
        if left := await shell.end(run_id, 5.0):
            logger.warning("end agent %s: %s", agent_id, left)
        await shell.remove(run_id)
        return session_id


class _Lazy:
    """The way to an agent whose place is asked for when first needed, and again when it has moved."""

    def __init__(self, places: Places, agent_id: AgentId, route: Mapping[str, str]) -> None:
        self._places = places
        self._agent_id = agent_id
        self._route = route
        self.base = ""

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[ClientSession]:
        client = await self._places.client(self._route)
        transport = client.agent(self._agent_id)
        self.base = transport.base
        async with transport.connected() as connection:
            yield connection


def _run_id(agent_id: AgentId, job_id: JobId) -> str:
    return f"{job_id}/{agent_id}"


def _wanted_files(order: SpawnAgent) -> list[str]:
    """Files of the workspace that the configuration is made from."""
    return [path for path in (settings_file(order), order.prompt_file) if path]


async def _read(client: PlaceClient, run_id: str, path: str) -> str | None:
    """A file of the place; None when there is none."""
    script = f"test -f {shlex.quote(path)} || exit 3; exec cat -- {shlex.quote(path)}"
    await client.start(run_id, script, env={}, cwd="/")
    try:
        kept = b""
        while True:
            piece = await client.output(run_id, len(kept))
            kept += piece.data
            if piece.is_over or len(kept) > READ_MOST:
                break
        view = await client.view(run_id)
    finally:
        with contextlib.suppress(AdapterError):
            await client.end(run_id, 0.0)
            await client.forget(run_id)
    if view.status == 3:
        return None
    if view.status != 0 or len(kept) > READ_MOST:
        reason = kept.decode("utf-8", "replace").strip()[-200:] or view.detail or "it is too large"
        raise AdapterError(f"read {path} of the workspace: {reason}", code="file")
    return kept.decode("utf-8", "replace")
