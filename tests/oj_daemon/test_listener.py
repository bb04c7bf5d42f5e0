"""Tests of oj_daemon/listener.py: a real socket, scripted handlers, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from oj_daemon import listener
from oj_daemon.access import Principal
from oj_daemon.errors import Rejected, WireError
from oj_daemon.listener import Limits, listen
from oj_daemon.wire.frames import FrameReader, frame, pack
from oj_daemon.wire.names import PROTOCOL
from oj_daemon.wire.replies import AnyReply, Error, Ok, Pruned, PrunedEntry
from oj_daemon.wire.requests import AnyRequest, JobPrune, JobShow, Ping, Watch

PATIENCE = 20.0
"""Seconds after which a test that waits for something has failed."""


class Peer:
    """The client's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader()
        self._got: list[bytes] = []

    def send(self, *requests: dict[str, Any] | bytes) -> None:
        self.writer.write(
            b"".join(part if isinstance(part, bytes) else pack(part) for part in requests)
        )

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while not self._got:
                data = await self.reader.read(1 << 16)
                if not data:
                    raise EOFError
                self._got = self._frames.feed(data)
        reply: dict[str, Any] = json.loads(self._got.pop(0))
        return reply

    async def ask(self, **request: Any) -> dict[str, Any]:
        self.send(request)
        return await self.receive()

    async def is_hung_up(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read(1) == b""


@contextlib.asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answer_ok(request: AnyRequest, _who: Principal) -> AnyReply:
    del request
    return Ok()


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


OK = {"type": "Ok"}


async def test_many_requests_go_over_one_connection(folder: Path) -> None:
    async with listen(folder / "s", answer_ok), connected(folder / "s") as peer:
        for _ in range(3):
            assert await peer.ask(type="Ping") == OK


async def test_requests_sent_at_once_are_answered_in_order_even_if_the_first_takes_longer(
    folder: Path,
) -> None:
    release = asyncio.Event()

    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        if isinstance(request, JobShow):
            if request.id == "slow":
                await release.wait()
            return Error(request.id)
        return Ok()

    async with listen(folder / "s", handle), connected(folder / "s") as peer:
        peer.send(
            {"type": "JobShow", "id": "slow"}, {"type": "JobShow", "id": "fast"}, {"type": "Ping"}
        )
        async with connected(folder / "s") as other:
            assert await other.ask(type="Ping") == OK  # one connection does not hold up another
        release.set()
        assert [(await peer.receive()).get("message") for _ in range(3)] == ["slow", "fast", None]


async def test_a_greeting_and_a_request_may_come_in_one_piece(folder: Path) -> None:
    async with listen(folder / "s", answer_ok), connected(folder / "s") as peer:
        peer.send({"type": "Hello", "protocol": PROTOCOL, "version": "1"}, {"type": "Ping"})
        hello = await peer.receive()
        assert (hello["type"], hello["protocol"]) == ("HelloReply", PROTOCOL)
        assert await peer.receive() == OK


async def test_a_request_may_come_byte_by_byte(folder: Path) -> None:
    async with listen(folder / "s", answer_ok), connected(folder / "s") as peer:
        for byte in pack({"type": "Ping"}):
            peer.send(bytes([byte]))
            await peer.writer.drain()
        assert await peer.receive() == OK


async def test_nothing_of_a_client_with_another_protocol_is_carried_out(folder: Path) -> None:
    handled: list[AnyRequest] = []

    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        handled.append(request)
        return Ok()

    async with listen(folder / "s", handle), connected(folder / "s") as peer:
        peer.send({"type": "Hello", "protocol": PROTOCOL + 1, "version": "9"}, {"type": "JobPrune"})
        assert (await peer.receive())["type"] == "HelloReply"
        refused = await peer.receive()
        assert (refused["type"], refused["code"], refused["hint"]) == (
            "Error",
            "invalid",
            "oj daemon restart",
        )
    assert handled == []


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b'{"type":"Pink"}', "unknown request: 'Pink'"),
        (b'{"type":"Ping","x":1}', "malformed request: Object contains unknown field `x`"),
        (b'{"type":"JobShow"}', "malformed request: Object missing required field `id`"),
        (b'{"type":"JobShow","id":7}', "malformed request: Expected `str`, got `int` - at `$.id`"),
        (b"[" * 100_000, "malformed request: Expected `object`, got `array`"),
        (b"[1]", "malformed request: Expected `object`, got `array`"),
        (b"{}", "malformed request: Object missing required field `type`"),
    ],
)
async def test_a_request_that_makes_no_sense_gets_an_error_and_the_connection_goes_on(
    folder: Path, payload: bytes, message: str
) -> None:
    async with listen(folder / "s", answer_ok), connected(folder / "s") as peer:
        peer.send(frame(payload))
        reply = await peer.receive()
        assert (reply["type"], reply["message"], reply["code"]) == ("Error", message, "invalid")
        assert await peer.ask(type="Ping") == OK


@pytest.mark.parametrize(
    "stream",
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        frame(b"{"),
        frame(b"\xff\xfe"),
        frame(b'{"type":"Ping"} x'),
        frame(b'{"type":"JobShow","id":"\\ud800"}'),
    ],
    ids=["zero", "huge", "http", "half", "binary", "rest", "surrogate"],
)
async def test_garbage_gets_an_error_before_the_connection_is_closed_and_others_are_served(
    folder: Path, stream: bytes
) -> None:
    async with (
        listen(folder / "s", answer_ok),
        connected(folder / "s") as other,
        connected(folder / "s") as peer,
    ):
        peer.send({"type": "Ping"}, stream)
        assert await peer.receive() == OK  # what came before the garbage counts
        reply = await peer.receive()
        assert (reply["type"], reply["code"]) == ("Error", "invalid")
        assert await peer.is_hung_up()
        assert await other.ask(type="Ping") == OK


async def test_a_request_above_the_limit_is_refused_by_its_length_alone(folder: Path) -> None:
    async with (
        listen(folder / "s", answer_ok, Limits(request_bytes=100)),
        connected(folder / "s") as peer,
    ):
        peer.send((101).to_bytes(4, "big"))
        assert (await peer.receive())["message"] == "message too large: 101 bytes, the limit is 100"


async def test_a_reply_above_the_limit_becomes_an_error(folder: Path) -> None:
    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        del request
        return Pruned(
            dry_run=True, pruned=tuple(PrunedEntry("i" * 50, "", "") for _ in range(10)), skipped=0
        )

    async with (
        listen(folder / "s", handle, Limits(reply_bytes=200)),
        connected(folder / "s") as peer,
    ):
        reply = await peer.ask(type="Ping")
        assert (reply["type"], reply["hint"]) == ("Error", "ask for less")
        assert reply["message"].endswith("the limit is 200")


async def test_a_refusal_is_told_with_code_and_hint(folder: Path) -> None:
    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        del request
        raise Rejected("no job 'x'", code="not_found", hint="oj job list")

    async with listen(folder / "s", handle), connected(folder / "s") as peer:
        assert await peer.ask(type="JobShow", id="x") == {
            "type": "Error",
            "message": "no job 'x'",
            "code": "not_found",
            "hint": "oj job list",
        }


async def test_a_handler_that_crashes_gives_an_error_and_a_traceback_in_the_log(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        if isinstance(request, JobShow):
            raise ZeroDivisionError
        return Ok()

    async with listen(folder / "s", handle), connected(folder / "s") as peer:
        reply = await peer.ask(type="JobShow", id="x")
        assert (reply["message"], reply["code"]) == ("JobShow: internal error", "internal")
        assert await peer.ask(type="Ping") == OK
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


async def test_a_client_that_goes_away_ends_the_question_it_asked(folder: Path) -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        if isinstance(request, Watch):
            asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
        return Ok()

    async with listen(folder / "s", handle) as running:
        async with connected(folder / "s") as peer:
            peer.send({"type": "Watch", "ids": ["j"]})
            await until(asked)
        await until(cancelled)
        async with connected(folder / "s") as peer:
            assert await peer.ask(type="Ping") == OK
            assert len(running.connections) == 1


async def test_a_client_that_goes_away_does_not_stop_a_change(folder: Path) -> None:
    begun, proceed, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        if isinstance(request, JobPrune):
            begun.set()
            await proceed.wait()
            done.set()
        return Ok()

    async with listen(folder / "s", handle) as running:
        async with connected(folder / "s") as peer:
            peer.send({"type": "JobPrune"})
            await until(begun)
        async with asyncio.timeout(PATIENCE):
            while running.connections:  # noqa: ASYNC110 - the listener tells nobody that it has seen it go
                await asyncio.sleep(0)
        proceed.set()
        await until(done)


async def test_a_silent_client_is_hung_up_on(folder: Path) -> None:
    limits = Limits(first_seconds=0.05, idle_seconds=0.05)
    async with (
        listen(folder / "s", answer_ok, limits),
        connected(folder / "s") as peer,
        connected(folder / "s") as late,
    ):
        assert await peer.is_hung_up()  # said nothing at all
        assert await late.is_hung_up()
    async with listen(folder / "s", answer_ok, limits), connected(folder / "s") as peer:
        assert await peer.ask(type="Ping") == OK
        assert await peer.is_hung_up()  # said nothing more
    async with listen(folder / "s", answer_ok, limits), connected(folder / "s") as peer:
        peer.send(pack({"type": "Ping"})[:7])
        assert (await peer.receive())["message"] == "the rest of the request did not arrive in time"
        assert await peer.is_hung_up()


async def test_a_client_that_waits_for_its_answer_is_not_idle(folder: Path) -> None:
    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        if isinstance(request, Watch):
            await asyncio.sleep(0.2)  # several times the limit: this is what is being tested
        return Ok()

    limits = Limits(first_seconds=5, idle_seconds=0.05)
    async with listen(folder / "s", handle, limits), connected(folder / "s") as peer:
        assert await peer.ask(type="Watch", ids=["j"]) == OK


async def test_one_client_too_many_is_told_so(folder: Path) -> None:
    async with (
        listen(folder / "s", answer_ok, Limits(connections=1)) as running,
        connected(folder / "s") as first,
    ):
        assert await first.ask(type="Ping") == OK
        async with connected(folder / "s") as second:
            reply = await second.receive()
            assert (reply["message"], reply["code"]) == ("too many connections (1)", "unavailable")
            assert await second.is_hung_up()
        assert await first.ask(type="Ping") == OK
        assert len(running.connections) == 1


async def test_a_client_that_sends_without_reading_is_held_back_and_loses_nothing(
    folder: Path,
) -> None:
    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        assert isinstance(request, JobShow)
        return Error(request.id + "x" * 10_000)

    count = 2_000
    async with listen(folder / "s", handle), connected(folder / "s") as peer:
        peer.send(*({"type": "JobShow", "id": f"{number:05}"} for number in range(count)))
        received = [(await peer.receive())["message"][:5] for _ in range(count)]
    assert received == [f"{number:05}" for number in range(count)]


async def test_of_large_requests_few_are_kept_waiting_and_none_is_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, held_back = asyncio.Event(), asyncio.Event()
    pause = listener.Connection._pause

    def pausing(connection: listener.Connection) -> None:
        pause(connection)
        held_back.set()

    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        await release.wait()
        assert isinstance(request, JobShow)
        return Error(request.id[:2])

    monkeypatch.setattr(listener.Connection, "_pause", pausing)
    numbers = [f"{number:02}" for number in range(40)]
    async with (
        listen(folder / "s", handle, Limits(request_bytes=200_000)),
        connected(folder / "s") as peer,
    ):
        peer.send(*({"type": "JobShow", "id": f"{number}{'x' * 100_000}"} for number in numbers))
        await until(held_back)
        release.set()
        assert [(await peer.receive())["message"] for _ in numbers] == numbers


async def test_a_client_that_goes_without_having_read_is_no_bug(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_back = asyncio.Event()
    pause = listener.Connection.pause_writing

    def pausing(connection: listener.Connection) -> None:
        pause(connection)
        held_back.set()

    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        return Error(f"{request}{'x' * 4_000_000}")

    monkeypatch.setattr(listener.Connection, "pause_writing", pausing)
    async with listen(folder / "s", handle) as running, connected(folder / "s") as peer:
        peer.send(*({"type": "Ping"} for _ in range(10)))
        await until(held_back)
        peer.writer.transport.abort()
        async with asyncio.timeout(PATIENCE):
            while running.connections:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0)
    assert "bug" not in caplog.text


async def test_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    monkeypatch.setattr(listener, "ALWAYS_WELCOME", frozenset[int]())
    async with listen(folder / "s", answer_ok), connected(folder / "s") as peer:
        reply = await peer.receive()
        assert reply["code"] == "unauthorized"
        assert reply["message"] == f"this daemon belongs to user 4711, not to user {os.getuid()}"
        assert await peer.is_hung_up()


async def test_the_socket_is_for_its_owner_alone_and_gone_at_the_end(folder: Path) -> None:
    path = folder / "s"
    async with listen(path, answer_ok):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_stale_socket_is_replaced(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with listen(path, answer_ok), connected(path) as peer:
        assert await peer.ask(type="Ping") == OK


async def test_the_socket_of_a_successor_is_left_alone(folder: Path) -> None:
    path = folder / "s"
    async with listen(path, answer_ok):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.is_socket()


async def test_a_file_that_is_no_socket_is_not_removed(folder: Path) -> None:
    path = folder / "s"
    path.write_text("precious")
    with pytest.raises(WireError, match="exists and is not a socket"):
        async with listen(path, answer_ok):
            pytest.fail("it listens")
    assert path.read_text() == "precious"


async def test_a_path_that_is_too_long_is_an_error_that_says_what_to_do(folder: Path) -> None:
    path = folder / ("x" * 120)
    with pytest.raises(WireError, match=r"^socket path too long: .* the limit is 107$") as failure:
        async with listen(path, answer_ok):
            pytest.fail("it listens")
    assert failure.value.hint == "set OJ_STATE_DIR to a folder with a shorter path"


async def test_the_longest_path_that_fits_works(folder: Path) -> None:
    path = folder / ("x" * (107 - len(str(folder)) - 1))
    async with listen(path, answer_ok), connected(path) as peer:
        assert await peer.ask(type="Ping") == OK


async def test_at_the_end_everybody_is_hung_up_on_whatever_they_wait_for(folder: Path) -> None:
    busy = asyncio.Event()

    async def handle(request: AnyRequest, _who: Principal) -> AnyReply:
        if not isinstance(request, Ping):
            busy.set()
            await asyncio.Event().wait()
        return Ok()

    async with contextlib.AsyncExitStack() as peers:
        async with listen(folder / "s", handle):
            idle, asking, changing = [
                await peers.enter_async_context(connected(folder / "s")) for _ in range(3)
            ]
            assert await idle.ask(type="Ping") == OK
            for peer, request in (
                (asking, {"type": "Watch", "ids": ["j"]}),
                (changing, {"type": "JobPrune"}),
            ):
                busy.clear()
                peer.send(request)
                await until(busy)
        for peer in (idle, asking, changing):
            assert await peer.is_hung_up()


async def test_an_error_inside_the_block_comes_out_as_it_is(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with listen(folder / "s", answer_ok):
            raise ZeroDivisionError
    assert not (folder / "s").exists()
