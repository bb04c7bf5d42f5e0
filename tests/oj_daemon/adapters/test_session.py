"""Tests of oj_daemon/adapters/session.py against a real sidecar with the scripted agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from oj_daemon.adapters.session import Session, UnixTransport
from oj_daemon.core.events import AgentEvent, AgentExited, AgentReported
from oj_daemon.wire.names import AgentId
from tests.support.sidecar import ROOT, Sidecar, sidecar
from tests.support.waiting import until

PATIENCE = 30.0


class Ear:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.position = 0
        self.entries: list[tuple[int, str]] = []
        self.usage: dict[str, Any] = {}
        self.heard = asyncio.Event()

    def hear(self, frame: Mapping[str, Any]) -> None:
        if frame["event"] == "usage:update":
            self.usage = dict(frame["cumulative"])
        elif frame["event"] == "lagged":
            self.position += frame["missed"]
        elif frame["event"] == "message:raw":
            self.position = frame["pos"]
            self.entries.append((self.position, frame["data"].get("type", "")))
            self.heard.set()


def session_log(agent: Sidecar) -> str:
    lines = agent.get("transcripts/catchup").body["live_lines"]
    return "".join(f"{line}\n" for line in lines)


@contextlib.contextmanager
def after_first_turn(
    tmp_path: Path, env: Mapping[str, str], *deeds: dict[str, Any]
) -> Iterator[Sidecar]:
    """An agent that has done its first turn and waits for messages."""
    plan = {
        "turns": [
            {"when": "begin", "do": [{"bash": "echo hello"}, *deeds, {"say": "Hello."}]},
            {"when": "leave", "do": [{"say": "Bye."}, {"exit": 3}]},
        ],
        "keys": str(tmp_path / "keys"),
    }
    (tmp_path / "agent-scenario.json").write_text(json.dumps(plan))
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"prompt": "begin"}))
    program = str(ROOT / "tests" / "support" / "agent" / "claude")
    options = ("--agent", "claude", "--agent-config", str(config), "--exit-with-child", "30")
    with sidecar([program], *options, cwd=tmp_path, env=env) as made:
        made.becomes("idle")
        until(lambda: "turn_duration" in session_log(made), PATIENCE, made.log)
        yield made


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Sidecar]:
    with after_first_turn(tmp_path, {}) as made:
        yield made


def client(agent: Sidecar) -> Session:
    assert agent.socket is not None
    return Session(
        AgentId("agt-1"), UnixTransport(agent.socket), lambda: agent.process.poll() is None
    )


async def test_a_number_is_typed_once_and_answered_the_same_again(
    agent: Sidecar, tmp_path: Path
) -> None:
    session = client(agent)
    first, second = await asyncio.gather(session.nudge(1, "good day"), session.nudge(1, "good day"))
    assert (first, second, await session.nudge(1, "good day")) == ("", "", "")
    assert (tmp_path / "keys").read_bytes().count(b"good day") == 1
    agent.becomes("idle")
    assert await session.nudge(2, "good day") == ""
    assert (tmp_path / "keys").read_bytes().count(b"good day") == 2


async def test_state_entries_and_usage_are_told_and_nothing_twice(agent: Sidecar) -> None:
    session, ear = client(agent), Ear()
    facts: list[AgentEvent] = []
    following = asyncio.ensure_future(session.follow(0, facts.append, ear))
    async with asyncio.timeout(PATIENCE):
        await ear.heard.wait()
    following.cancel()
    await asyncio.wait({following})
    seen = max(fact.seq for fact in facts if isinstance(fact, AgentReported)) if facts else 0
    async with asyncio.timeout(PATIENCE):
        following = asyncio.ensure_future(session.follow(seen, facts.append, ear))
        assert await session.nudge(1, "please leave") == ""
        exited = await following
    assert exited == AgentExited(agent_id=AgentId("agt-1"), exit_code=3)
    await session.catch_up(ear)
    positions = [position for position, _ in ear.entries]
    assert positions == list(range(1, len(positions) + 1))
    numbers = [fact.seq for fact in facts if isinstance(fact, AgentReported)]
    assert numbers == sorted(
        numbers
    )  # the present one is told at each connection; the core knows its number
    assert ear.usage["request_count"] >= 2
    remains = await session.remains()
    assert remains.screen is not None
    assert "Bye." in "\n".join(remains.screen["lines"])
    assert remains.transcript is not None
    assert len(remains.transcript.splitlines()) == len(positions)
    assert remains.usage is not None
    assert remains.usage["request_count"] == ear.usage["request_count"]


async def test_what_no_stream_has_told_is_caught_up_with(tmp_path: Path) -> None:
    """The end of a turn is written after the hook by which it is known, and the log is looked at now and then."""
    never = {"OJ_SIDECAR_LOG_POLL_MS": "3600000"}
    with after_first_turn(tmp_path, never) as agent:
        session, ear = client(agent), Ear()
        assert await session.catch_up(ear)
        written = [json.loads(line) for line in session_log(agent).splitlines()]
        assert ear.entries == [
            (position, entry.get("type", "")) for position, entry in enumerate(written, start=1)
        ]
        assert await session.catch_up(ear)
        assert len(ear.entries) == len(written)


async def test_entries_that_are_no_longer_remembered_are_told_as_missed(tmp_path: Path) -> None:
    many = "".join(f'{{"type":"note","number":{number}}}\n' for number in range(5000))
    never = {"OJ_SIDECAR_LOG_POLL_MS": "3600000"}
    with after_first_turn(tmp_path, never, {"log_raw": many}) as agent:
        session, ear = client(agent), Ear()
        assert await session.catch_up(ear)
        positions = [position for position, _ in ear.entries]
        assert positions[0] > 1, "the first ones are gone"
        assert positions == list(range(positions[0], positions[0] + len(positions)))
        assert positions[-1] == len(session_log(agent).splitlines())


async def test_of_a_session_that_is_gone_nothing_remains(tmp_path: Path) -> None:
    session = Session(AgentId("agt-1"), UnixTransport(str(tmp_path / "none")), lambda: False)
    assert await session.remains() == (None, None, None)
    assert (await session.follow(0, lambda _fact: None, Ear())).reason == "its session is gone"
