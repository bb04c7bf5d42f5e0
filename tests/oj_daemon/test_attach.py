"""Tests of oj_daemon/attach.py and of what listener and session do for it: a real socket, and a sidecar that is scripted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from oj_daemon import attach
from oj_daemon.access import Principal
from oj_daemon.adapters.session import Session, UnixTransport
from oj_daemon.attach import Upgrade
from oj_daemon.listener import STOPPING, listen
from oj_daemon.wire.frames import DATA, DETACH, EXIT, RESIZE, FrameReader, frame, pack
from oj_daemon.wire.names import AgentId
from oj_daemon.wire.replies import AgentAttached
from oj_daemon.wire.requests import AgentAttach, AnyRequest

PATIENCE = 20.0


class FakeSidecar:
    """Only `/ws/raw`: writes down what comes, sends what the test puts in."""

    def __init__(self) -> None:
        self.query: dict[str, str] = {}
        self.got: asyncio.Queue[Any] = asyncio.Queue()
        self.outgoing: asyncio.Queue[bytes | dict[str, Any] | None] = asyncio.Queue()
        self.sent = 0

    async def raw(self, request: web.Request) -> web.WebSocketResponse:
        self.query = dict(request.query)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(socket))
            async for message in socket:
                is_text = message.type is WSMsgType.TEXT
                self.got.put_nowait(json.loads(message.data) if is_text else message.data)
            self.got.put_nowait("closed")
            sending.cancel()
        return socket

    async def _send(self, socket: web.WebSocketResponse) -> None:
        while (item := await self.outgoing.get()) is not None:
            if isinstance(item, bytes):
                await socket.send_bytes(item)
                self.sent += len(item)
            else:
                await socket.send_json(item)
        await socket.close()


class Person:
    """The client's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._frames = FrameReader()
        self._got: list[bytes] = []

    def send(self, kind: int, data: bytes) -> None:
        self.writer.write(frame(bytes([kind]) + data))

    async def receive(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            while not self._got:
                data = await self.reader.read(1 << 16)
                if not data:
                    raise EOFError
                self._got = self._frames.feed(data)
        return self._got.pop(0)


@contextlib.asynccontextmanager
async def attached(
    folder: Path, *, people: int = 1, ended: Callable[[], str] = lambda: ""
) -> AsyncIterator[tuple[FakeSidecar, Any]]:
    """People at the terminal of one agent; the last item hangs up as a daemon that ends."""
    sidecar = FakeSidecar()
    application = web.Application()
    application.router.add_get("/ws/raw", sidecar.raw)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(folder / "s")).start()
    session = Session(AgentId("agt-1"), UnixTransport(str(folder / "s")), lambda: True)

    async def handle(request: AnyRequest, _who: Principal) -> Upgrade:
        assert isinstance(request, AgentAttach)
        reply = AgentAttached(agent_id="agt-1", name="coder")
        return Upgrade(
            reply,
            partial(
                attach.serve, session=session, cols=request.cols, rows=request.rows, ended=ended
            ),
        )

    try:
        async with listen(folder / "d", handle) as listener:
            found = []
            for _ in range(people):
                person = Person(*await asyncio.open_unix_connection(str(folder / "d")))
                person.writer.write(
                    pack({"type": "AgentAttach", "id": "agt-1", "cols": 90, "rows": 30})
                )
                assert json.loads(await person.receive())["type"] == "AgentAttached"
                found.append(person)
            yield sidecar, (*found, listener)
            for person in found:
                person.writer.close()
    finally:
        await runner.cleanup()


async def next_of(queue: asyncio.Queue[Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await queue.get()


async def test_bytes_and_sizes_pass_and_the_end_is_told(folder: Path) -> None:
    async with attached(folder) as (sidecar, (person, _)):
        sidecar.outgoing.put_nowait(b"\x1b[1mhi\xff")
        assert await person.receive() == bytes([DATA]) + b"\x1b[1mhi\xff"
        assert sidecar.query == {"cols": "90", "rows": "30"}
        person.send(DATA, b"\x03keys")
        assert await next_of(sidecar.got) == b"\x03keys"
        person.send(RESIZE, b'{"cols": 5000, "rows": 40}')
        assert await next_of(sidecar.got) == {"event": "resize", "cols": 1000, "rows": 40}
        assert await next_of(sidecar.got) == {"event": "redraw"}
        sidecar.outgoing.put_nowait({"event": "exit", "code": 3, "signal": None})
        assert await person.receive() == bytes([EXIT]) + b'{"code":3,"signal":null}'
        with pytest.raises(EOFError):
            await person.receive()


@pytest.mark.parametrize("first", ["key", "picture"])
async def test_whose_token_was_revoked_types_nothing_and_sees_nothing_more(
    folder: Path, first: str
) -> None:
    why = [""]
    async with attached(folder, ended=lambda: why[0]) as (sidecar, (person, _)):
        person.send(DATA, b"before")
        assert await next_of(sidecar.got) == b"before"
        why[0] = "its token was revoked"
        if first == "key":
            person.send(DATA, b"rm")
        else:
            sidecar.outgoing.put_nowait(b"secret")
        said = await person.receive()
        assert said[0] == DETACH
        assert json.loads(said[1:])["reason"] == "its token was revoked"
        with pytest.raises(EOFError):
            await person.receive()
        assert await next_of(sidecar.got) == "closed"


@pytest.mark.parametrize("how", ["detach", "close", "nonsense"])
async def test_whoever_leaves_in_whatever_way_leaves_the_agent_and_others_alone(
    folder: Path, how: str
) -> None:
    async with attached(folder, people=2) as (sidecar, (leaver, other, _)):
        leaver.send(DATA, b"one")
        assert await next_of(sidecar.got) == b"one"
        if how == "detach":
            leaver.send(DETACH, b"{}")
        elif how == "close":
            leaver.writer.close()
        else:
            leaver.send(RESIZE, b"what?")
        assert await next_of(sidecar.got) == "closed"
        other.send(DATA, b"two")
        assert await next_of(sidecar.got) == b"two"


async def test_a_daemon_that_ends_says_so(folder: Path) -> None:
    async with attached(folder) as (sidecar, (person, listener)):
        sidecar.outgoing.put_nowait(b"hi")
        await person.receive()
        listener.hang_up()
        payload = await person.receive()
        assert payload[0] == DETACH
        assert json.loads(payload[1:]) == {"reason": STOPPING, "again": True}


async def test_a_session_that_ends_says_so(folder: Path) -> None:
    async with attached(folder) as (sidecar, (person, _)):
        sidecar.outgoing.put_nowait(None)
        payload = await person.receive()
        assert payload[0] == DETACH
        assert json.loads(payload[1:])["again"] is False


async def test_one_who_does_not_read_stops_the_flow_and_gets_all_of_it_later(folder: Path) -> None:
    piece, count = b"x" * 60_000, 400
    async with attached(folder) as (sidecar, (person, _)):
        for _number in range(count):
            sidecar.outgoing.put_nowait(piece)
        async with asyncio.timeout(PATIENCE):
            while not sidecar.sent:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
        last = -1
        while last != sidecar.sent:  # until it has come to rest
            last = sidecar.sent
            await asyncio.sleep(0.3)
        assert 0 < last < len(piece) * count / 2, "somebody hoards what nobody reads"
        got = 0
        while got < len(piece) * count:
            got += len(await person.receive()) - 1
        assert got == len(piece) * count


async def test_an_agent_without_a_sidecar_is_a_clear_end(folder: Path) -> None:
    sent: list[bytes] = []

    class Nobody:
        async def receive(self) -> bytes | None:
            return None

        async def send(self, payload: bytes) -> None:
            sent.append(payload)

    session = Session(AgentId("agt-1"), UnixTransport(str(folder / "none")), lambda: False)
    await attach.serve(Nobody(), session, 80, 24)
    assert sent[0][0] == DETACH
    assert "enter the agent's terminal" in json.loads(sent[0][1:])["reason"]
