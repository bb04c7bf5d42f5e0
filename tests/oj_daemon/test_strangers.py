"""Tests of oj_daemon/listener.py: who comes from afar, over real TLS on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from oj_daemon import settings, tls
from oj_daemon.access import FULL_TOKEN, OWNER, Principal
from oj_daemon.errors import WireError
from oj_daemon.listener import STRANGER_BYTES, Limits, Listener, Remote, listen
from oj_daemon.wire.frames import pack
from oj_daemon.wire.names import PROTOCOL
from oj_daemon.wire.replies import AnyReply, Error, Ok
from oj_daemon.wire.requests import AnyRequest
from tests.oj_daemon.test_listener import OK, PATIENCE, Peer, connected

TOKEN = "sesame"


def hello(token: str = TOKEN) -> dict[str, Any]:
    return {"type": "Hello", "protocol": PROTOCOL, "version": "9.9", "token": token}


def authenticate(token: str, is_local: bool) -> Principal | None:
    if is_local:
        return OWNER
    return FULL_TOKEN if token == TOKEN else None


async def tell_who(_request: AnyRequest, who: Principal) -> AnyReply:
    return Ok() if who.is_full and who.name == "token" else Error(who.name)


class Door:
    """A daemon with a port, and the way to it."""

    def __init__(self, listener: Listener, port: int, client: ssl.SSLContext | None) -> None:
        self.listener = listener
        self.port = port
        self._client = client

    @contextlib.asynccontextmanager
    async def stranger(self) -> AsyncIterator[Peer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self._client)
        try:
            yield Peer(reader, writer)
        finally:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def raw(self) -> AsyncIterator[Peer]:
        """TCP alone."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Peer(reader, writer)
        finally:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def door(
    folder: Path, limits: Limits | None = None, *, plain: bool = False
) -> AsyncIterator[Door]:
    context = client = None
    if not plain:
        context = tls.keep(settings.load({"OJ_STATE_DIR": str(folder)})).context
        client = ssl.create_default_context(cafile=folder / "tls" / "ca.pem")
    remote = Remote("127.0.0.1", 0, context)
    async with listen(
        folder / "s", tell_who, limits or Limits(), authenticate=authenticate, remote=remote
    ) as listener:
        (port,) = listener.ports
        yield Door(listener, port, client)


async def test_a_burst_of_strangers_is_held_to_the_limit_and_leaves_nothing(folder: Path) -> None:
    limits = Limits(strangers=8, first_seconds=0.5)
    async with door(folder, limits) as open_door:
        # All of them wait at the door before the loop gets to look.
        crowd = [socket.create_connection(("127.0.0.1", open_door.port)) for _ in range(30)]
        try:
            async with asyncio.timeout(PATIENCE):
                async with open_door.stranger() as last:  # in turn: all before it were looked at
                    last.send(hello())
                    assert open_door.listener.stranger_count <= limits.strangers
                while open_door.listener.stranger_count:
                    assert open_door.listener.stranger_count <= limits.strangers
                    await asyncio.sleep(0.01)
        finally:
            for link in crowd:
                link.close()


@pytest.mark.parametrize("plain", [False, True])
async def test_with_the_token_requests_go_over_the_same_connection(
    folder: Path, *, plain: bool
) -> None:
    async with door(folder, plain=plain) as open_door, open_door.stranger() as peer:
        peer.send(hello(), {"type": "Ping"})  # at once
        assert (await peer.receive())["type"] == "HelloReply"
        assert await peer.receive() == OK
        for _ in range(3):
            assert await peer.ask(type="Ping") == OK


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (hello(""), "a token is needed"),
        (hello("sesam"), "the token is not known here"),
        ({"type": "Ping"}, "the first request has to be a Hello with a token"),
        ({"type": "DaemonStop"}, "the first request has to be a Hello with a token"),
        (b"\0\0\0\2{}", "the first request has to be a Hello with a token"),
        (b"\0\0\0\2\xff\xff", "the first request has to be a Hello with a token"),
    ],
)
async def test_a_stranger_is_refused_and_learns_nothing(
    folder: Path, first: dict[str, Any] | bytes, why: str
) -> None:
    async with door(folder) as open_door, open_door.stranger() as peer:
        peer.send(first)
        reply = await peer.receive()
        assert (reply["type"], reply["code"], reply["message"]) == ("Error", "unauthorized", why)
        assert "version" not in reply
        assert await peer.is_hung_up()


async def test_what_follows_a_refused_hello_is_not_carried_out(folder: Path) -> None:
    async with door(folder) as open_door, open_door.stranger() as peer:
        peer.send(hello("wrong"), {"type": "Ping"})
        assert (await peer.receive())["code"] == "unauthorized"
        assert await peer.is_hung_up()


async def test_a_large_request_right_behind_the_hello_arrives_whole(folder: Path) -> None:
    async with door(folder) as open_door, open_door.stranger() as peer:
        peer.send(hello(), {"type": "JobShow", "id": "x" * (4 * STRANGER_BYTES)})
        assert (await peer.receive())["type"] == "HelloReply"
        assert await peer.receive() == OK


async def test_little_is_kept_of_one_who_does_not_say_hello(folder: Path) -> None:
    async with door(folder) as open_door, open_door.stranger() as peer:
        peer.send((8 << 20).to_bytes(4, "big"))
        with contextlib.suppress(OSError):
            for _ in range(200):
                peer.send(b"x" * (64 << 10))
                await peer.writer.drain()
            pytest.fail("all of it was taken")
        assert not open_door.listener.connections


async def test_a_hello_that_comes_byte_by_byte_has_to_be_there_in_time(folder: Path) -> None:
    async with door(folder, Limits(first_seconds=0.3)) as open_door, open_door.stranger() as peer:
        for byte in pack(hello())[:-1]:
            peer.send(bytes([byte]))
            await asyncio.sleep(0.01)
        async with asyncio.timeout(PATIENCE):
            await peer.reader.read()
        assert not open_door.listener.connections


@pytest.mark.parametrize("kind", ["silent", "tls"])
async def test_many_idle_strangers_do_not_keep_others_out(folder: Path, kind: str) -> None:
    limits = Limits(strangers=8, first_seconds=PATIENCE)
    async with door(folder, limits) as open_door, contextlib.AsyncExitStack() as crowd:
        for _ in range(50):
            way = open_door.raw() if kind == "silent" else open_door.stranger()
            with contextlib.suppress(OSError):
                await crowd.enter_async_context(way)
        async with open_door.stranger() as peer, connected(folder / "s") as local:
            peer.send(hello())
            assert (await peer.receive())["type"] == "HelloReply"
            assert await peer.ask(type="Ping") == OK
            assert (await local.ask(type="Ping"))["message"] == "owner"
        assert open_door.listener.stranger_count <= limits.strangers


async def test_one_who_is_known_is_not_pushed_out_by_strangers(folder: Path) -> None:
    async with door(folder, Limits(strangers=2)) as open_door, open_door.stranger() as peer:
        peer.send(hello())
        await peer.receive()
        async with contextlib.AsyncExitStack() as crowd:
            for _ in range(20):
                await crowd.enter_async_context(open_door.raw())
            assert await peer.ask(type="Ping") == OK


async def test_those_from_afar_cannot_take_every_connection(folder: Path) -> None:
    """A program with a token of its own may be the attacker, too."""
    async with (
        door(folder, Limits(connections=4)) as open_door,
        contextlib.AsyncExitStack() as all_,
    ):
        for _ in range(3):
            peer = await all_.enter_async_context(open_door.stranger())
            assert (await peer.ask(**hello()))["type"] == "HelloReply"
        late = await all_.enter_async_context(open_door.stranger())
        late.send(hello())
        assert await late.is_hung_up()
        async with connected(folder / "s") as near:
            assert (await near.ask(type="Ping"))["message"] == "owner"


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" * 9, b"\0"])
async def test_garbage_instead_of_tls_costs_only_its_own_connection(
    folder: Path, garbage: bytes
) -> None:
    async with door(folder, Limits(first_seconds=2)) as open_door:
        async with open_door.raw() as peer:
            peer.send(garbage)
            async with asyncio.timeout(PATIENCE):
                with contextlib.suppress(ConnectionError):
                    await peer.reader.read()
        async with open_door.stranger() as peer:
            peer.send(hello())
            assert (await peer.receive())["type"] == "HelloReply"


async def test_a_connection_is_closed_after_so_many_requests(folder: Path) -> None:
    async with door(folder, Limits(requests=3)) as open_door, open_door.stranger() as peer:
        peer.send(hello())
        await peer.receive()
        for _ in range(2):
            assert await peer.ask(type="Ping") == OK
        assert await peer.is_hung_up()


async def test_a_port_that_is_taken_is_an_error_that_names_it(folder: Path) -> None:
    async with door(folder, plain=True) as open_door:
        remote = Remote("127.0.0.1", open_door.port, None)
        with pytest.raises(WireError, match=f"^listen on 127.0.0.1:{open_door.port}: ") as failure:
            async with listen(folder / "t", tell_who, remote=remote):
                pytest.fail("it listens")
    assert "OJ_TCP_PORT" in failure.value.hint


async def test_at_the_end_strangers_are_hung_up_on_too(folder: Path) -> None:
    async with contextlib.AsyncExitStack() as crowd:
        async with door(folder) as open_door:
            silent = await crowd.enter_async_context(open_door.raw())
            half = await crowd.enter_async_context(open_door.stranger())
            known = await crowd.enter_async_context(open_door.stranger())
            known.send(hello())
            await known.receive()
        for peer in (silent, half, known):
            async with asyncio.timeout(PATIENCE):
                with contextlib.suppress(ConnectionError):
                    await peer.reader.read()


async def test_many_who_are_refused_do_not_fill_the_log(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with door(folder, plain=True) as open_door:
        for _ in range(50):
            async with open_door.stranger() as peer:
                peer.send(hello("guess"))
                await peer.receive()
    lines = [line for line in caplog.messages if "the token is not known here" in line]
    assert 1 <= len(lines) < 25
