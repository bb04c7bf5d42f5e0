"""Conversations of agents in places, saved on the daemon's machine while they go on: a place may be gone without a warning.

Rule: a log is fetched after each turn, and now and then during a long one; never while an agent is idle. What is saved may be
short of the last moments, and ends with a whole line.

    <folder of the agents>/<job id>/<agent id>/<session>.jsonl   the log
                                               <session>.place   UID of the place that the agent worked in
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from oj_daemon.adapters.session import Session
from oj_daemon.core import events
from oj_daemon.core.effects import SpawnAgent
from oj_daemon.errors import AdapterError
from oj_daemon.wire.names import AgentId

logger = logging.getLogger(__name__)

SAVE_SECONDS: Final = 30.0
"""How often the log of an agent is saved that works on and on."""
LONGEST_WORD: Final = 200
LOST: Final = b"\0"
"""There was a conversation, and nothing of it is left."""


class SavedLogs:
    """What is saved of all conversations."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current: dict[AgentId, str] = {}
        """The conversation of each agent that was found since the daemon began."""

    def find(self, order: SpawnAgent, route: Mapping[str, str]) -> bytes:
        """The log that the session goes on with, where the place may not have it; LOST; or nothing."""
        if not order.session_id:
            return b""
        logs = self._all(order, "jsonl")
        if logs:
            text = max(logs, key=lambda path: path.stat().st_mtime_ns).read_bytes()
            if whole := text[: text.rfind(b"\n") + 1]:
                return whole
        places = {path.read_text("ascii") for path in self._all(order, "place")}
        return LOST if places and route.get("uid", "") not in places else b""

    def note(self, order: SpawnAgent, session_id: str, route: Mapping[str, str]) -> None:
        """Remember in which place a conversation is."""
        if session_id:
            self._current[order.agent_id] = session_id
            folder = self._folder / order.job_id / order.agent_id
            (folder / f"{_word(session_id)}.place").write_text(route.get("uid", ""), "ascii")

    def keeper(self, order: SpawnAgent, route: Mapping[str, str], session: Session) -> Keeper:
        """Who saves what this session does from now on."""
        return Keeper(self, order, route, session, self._current.pop(order.agent_id, ""))

    def path(self, order: SpawnAgent, session_id: str) -> Path:
        """Where its log is saved."""
        return self._folder / order.job_id / order.agent_id / f"{_word(session_id)}.jsonl"

    def _all(self, order: SpawnAgent, kind: str) -> list[Path]:
        job = self._folder / order.job_id
        word = _word(order.session_id)
        return [path for path in job.glob(f"*/*.{kind}") if path.stem == word]


def _word(session_id: str) -> str:
    """The name of one file, whatever an agent calls its conversation."""
    return quote(session_id, safe="")[:LONGEST_WORD]


class Keeper:
    """Saves the log of one session; `run` as long as that is followed."""

    def __init__(
        self,
        logs: SavedLogs,
        order: SpawnAgent,
        route: Mapping[str, str],
        session: Session,
        session_id: str,
    ) -> None:
        self._logs = logs
        self._order = order
        self._route = route
        self._session = session
        self._session_id = session_id
        self._is_working = False
        self._news = asyncio.Event()
        self._copies, self._line = -1, 0

    def hear(self, fact: events.AgentEvent) -> None:
        """Take a report."""
        if not isinstance(fact, events.AgentReported):
            return
        if fact.session_id and fact.session_id != self._session_id:
            self._session_id = fact.session_id
            self._copies, self._line = -1, 0
            self._logs.note(self._order, fact.session_id, self._route)
        self._is_working = fact.state == "working"
        self._news.set()

    async def run(self) -> None:
        """Save after each turn, and now and then during one, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAVE_SECONDS if self._is_working else None):
                    await self._news.wait()
                self._news.clear()
            if self._session_id:
                try:
                    await self._save()
                except (AdapterError, OSError) as error:
                    logger.info("save the log of %s: %s", self._order.agent_id, error)

    async def _save(self) -> None:
        path = self._logs.path(self._order, self._session_id)
        before = self._copies
        lines, self._copies, self._line = await self._session.log_since(before, self._line)
        text = "".join(f"{line}\n" for line in lines)
        with path.open("a" if self._copies == before else "w", encoding="utf-8") as file:
            file.write(text)
        path.chmod(0o600)
