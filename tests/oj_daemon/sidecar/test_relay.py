"""The way through a real place to a sidecar behind it, which is played by the test."""

from __future__ import annotations

import asyncio
import gzip
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from yarl import URL

from oj_daemon.sidecar.bodies import MESSAGE_MOST
from tests.support.places import NAME, TOKEN, Papers, PlaceProcess, place

pytestmark = pytest.mark.e2e  # a real process

PATIENCE = 30.0
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaceProcess]:
    with place(Papers(tmp_path_factory.mktemp("papers"))) as made:
        yield made


class Nested:
    """A sidecar as the relay sees it: what came, and what is answered."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.progress = 0
        self.closed: asyncio.Queue[int | None] = asyncio.Queue()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if self.answer is not None:
            return await self.answer(request)
        self.bodies.append(await request.read())
        return web.Response(status=299, text="answered", headers={"X-Nested": "yes"})


@pytest.fixture
async def nested(shared: PlaceProcess) -> AsyncIterator[Nested]:
    made = Nested()
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    home = shared.files / "agents" / "agt-x"
    home.mkdir(parents=True, exist_ok=True)
    (home / "sock").unlink(missing_ok=True)
    await web.UnixSite(runner, str(home / "sock")).start()
    try:
        async with asyncio.timeout(PATIENCE):
            yield made
    finally:
        await runner.cleanup()


@pytest.fixture
async def client(shared: PlaceProcess) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        f"https://127.0.0.1:{shared.port}",
        connector=aiohttp.TCPConnector(ssl=shared.context),
        headers=BEARER,
    ) as made:
        yield made


def ask(client: aiohttp.ClientSession, method: str, path: str | URL, **more: Any) -> Any:
    return client.request(method, path, server_hostname=NAME, **more)


def stream(client: aiohttp.ClientSession, path: str, **more: Any) -> Any:
    return client.ws_connect(path, server_hostname=NAME, max_msg_size=0, **more)


# -- requests ------------------------------------------------------------------------------------------------------


async def test_a_request_arrives_as_it_was_without_what_let_it_in(
    shared: PlaceProcess, client: aiohttp.ClientSession, nested: Nested
) -> None:
    url = f"https://127.0.0.1:{shared.port}/agents/agt-x/api/v1/a%2Fb/..%2fc?q=1%202&w=a%26b&empty="
    path = URL(url, encoded=True)
    headers = {"X-Mine": "1", "Cookie": "a=b", "Accept": "text/plain"}
    async with ask(client, "PUT", path, data=b"\x00\xff", headers=headers) as reply:
        assert (reply.status, reply.headers["X-Nested"], await reply.text()) == (299, "yes", "answered")  # fmt: skip
    (seen,) = nested.seen
    assert (seen.method, seen.raw_path) == (
        "PUT",
        "/api/v1/a%2Fb/..%2fc?q=1%202&w=a%26b&empty=",
    )
    assert nested.bodies == [b"\x00\xff"]
    assert (seen.headers["X-Mine"], seen.headers["Accept"]) == ("1", "text/plain")
    assert TOKEN not in str(seen.headers)
    assert "Cookie" not in seen.headers


async def test_a_body_larger_than_any_buffer_passes_both_ways(
    client: aiohttp.ClientSession, nested: Nested
) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for data in request.content.iter_any():
            await response.write(data)
        return response

    nested.answer = echo
    sent = bytes(range(256)) * (1 << 16)
    async with ask(client, "POST", "/agents/agt-x/echo", data=io.BytesIO(sent)) as reply:
        assert await reply.read() == sent


async def test_packed_bodies_stay_packed_on_the_way(
    client: aiohttp.ClientSession, nested: Nested
) -> None:
    async def packs(request: web.Request) -> web.StreamResponse:
        nested.bodies.append(await request.read())  # unpacked here, and only here
        packed = gzip.compress(b"answer" * 1000)
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    nested.answer = packs
    sent = gzip.compress(b"request" * 1000)
    headers = {"Content-Encoding": "gzip"}
    async with ask(client, "POST", "/agents/agt-x/packed", data=sent, headers=headers) as reply:
        assert await reply.read() == b"answer" * 1000
    assert nested.bodies == [b"request" * 1000]
    assert nested.seen[0].content_length == len(sent)


async def test_half_a_reply_does_not_look_like_a_whole_one(
    client: aiohttp.ClientSession, nested: Nested
) -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    nested.answer = breaks
    async with ask(client, "GET", "/agents/agt-x/half") as reply:
        assert reply.status == 200
        with pytest.raises(aiohttp.ClientError):
            await reply.read()


async def test_who_goes_away_is_not_waited_for(
    client: aiohttp.ClientSession, nested: Nested
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def waits(request: web.Request) -> web.StreamResponse:
        asked.set()
        while request.transport is not None:  # noqa: ASYNC110 - aiohttp has no event for it
            await asyncio.sleep(0.01)
        left.set()
        return web.Response()

    nested.answer = waits
    asking = asyncio.ensure_future(client.get("/agents/agt-x/wait", server_hostname=NAME))
    await asked.wait()
    asking.cancel()
    await left.wait()


@pytest.mark.parametrize(
    "name",
    ["nobody", "..", "%2e%2e", ".", "a%2fb", "..%2fagents%2fagt-x", "agt-x%00", "agt%2dx", "-x", "x" * 41, "%c3%a4", "x%0a"],
)  # fmt: skip
async def test_names_that_are_no_agents_are_not_found(
    shared: PlaceProcess, nested: Nested, name: str
) -> None:
    reply = await asyncio.to_thread(
        shared.ask, "GET", f"/agents/{name}/api/v1/health", shared.context, BEARER
    )
    assert reply.status == 404
    assert reply.body["error"]["code"] == "NOT_FOUND"
    assert nested.seen == []


async def test_a_path_cannot_leave_its_agent(shared: PlaceProcess, nested: Nested) -> None:
    for path in ("/agents/agt-x/../../api/v1/exec", "/agents/agt-x//api/v1/exec"):
        reply = await asyncio.to_thread(shared.ask, "GET", path, shared.context, BEARER)
        assert reply.status == 299, reply.text
    assert [seen.raw_path for seen in nested.seen] == ["/../../api/v1/exec", "//api/v1/exec"]


async def test_a_socket_that_nobody_serves_is_said_in_words(
    shared: PlaceProcess, client: aiohttp.ClientSession
) -> None:
    home = shared.files / "agents" / "agt-dead"
    home.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home / "sock"))
    async with ask(client, "GET", "/agents/agt-dead/api/v1/health") as reply:
        found = await reply.json()
        assert (reply.status, found["error"]["code"]) == (502, "UNREACHABLE")
        assert "the sidecar of agent 'agt-dead' does not answer" in found["error"]["message"]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await stream(client, "/agents/agt-dead/ws")
    assert refused.value.status == 502
    (shared.files / "agents/agt-file").mkdir()
    (shared.files / "agents/agt-file/sock").write_text("no socket")
    async with ask(client, "GET", "/agents/agt-file/api/v1/health") as reply:
        assert reply.status == 404


# -- WebSockets ----------------------------------------------------------------------------------------------------


def served(
    nested: Nested, work: Callable[[web.WebSocketResponse], Awaitable[None]], **more: Any
) -> None:
    """Let the sidecar answer WebSockets like this."""

    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.WebSocketResponse(max_msg_size=0, **more)
        await stream.prepare(request)
        await work(stream)
        nested.closed.put_nowait(stream.close_code)
        return stream

    nested.answer = answer


async def echo(stream: web.WebSocketResponse) -> None:
    async for message in stream:
        if message.type is WSMsgType.BINARY:
            await stream.send_bytes(message.data)
        else:
            await stream.send_str(message.data)


async def test_frames_keep_their_kind_and_content_also_big_ones(
    client: aiohttp.ClientSession, nested: Nested
) -> None:
    served(nested, echo)
    async with stream(client, "/agents/agt-x/ws?subscribe=state&since_seq=3") as mine:
        for data in (b"", b"\x00\xff", b"x" * (MESSAGE_MOST - 1024)):
            await mine.send_bytes(data)
            assert (await mine.receive_bytes()) == data
        for text in ("", "späť", "y" * 1_000_000):
            await mine.send_str(text)
            assert (await mine.receive_str()) == text
    assert nested.seen[0].raw_path == "/ws?subscribe=state&since_seq=3"
    assert "Authorization" not in nested.seen[0].headers


async def test_a_message_that_no_sidecar_would_take_ends_the_stream(
    client: aiohttp.ClientSession, nested: Nested
) -> None:
    served(nested, echo)
    async with stream(client, "/agents/agt-x/ws") as mine:
        await mine.send_bytes(b"x" * (MESSAGE_MOST + 1))
        message = await mine.receive()
        assert message.type is WSMsgType.CLOSE
        assert message.data == 1009


async def test_the_words_of_a_close_reach_the_other_end(
    client: aiohttp.ClientSession, nested: Nested
) -> None:
    async def leaves(stream: web.WebSocketResponse) -> None:
        await stream.close(code=4401, message=b"not authenticated")

    served(nested, leaves)
    async with stream(client, "/agents/agt-x/ws") as mine:
        message = await mine.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4401, "not authenticated")  # fmt: skip
    await nested.closed.get()
    served(nested, echo)
    async with stream(client, "/agents/agt-x/ws") as mine:
        await mine.close(code=4000, message=b"enough")
    assert await nested.closed.get() == 4000


async def test_a_side_that_vanishes_takes_the_other_along(
    client: aiohttp.ClientSession, nested: Nested
) -> None:
    served(nested, echo)
    mine = await stream(client, "/agents/agt-x/ws")
    await mine.send_str("hello")
    await mine.receive_str()
    mine._response.close()  # no goodbye
    assert await nested.closed.get() in {1001, 1006}

    async def vanishes(stream: web.WebSocketResponse) -> None:
        assert stream._req is not None
        assert stream._req.transport is not None
        stream._req.transport.abort()

    served(nested, vanishes)
    async with stream(client, "/agents/agt-x/ws") as mine:
        assert (await mine.receive()).type is WSMsgType.CLOSE


async def test_pings_are_answered_by_the_far_end_only(
    client: aiohttp.ClientSession, nested: Nested
) -> None:
    awake = asyncio.Event()

    async def sleeps(stream: web.WebSocketResponse) -> None:
        await awake.wait()
        await stream.send_str("awake")
        await echo(stream)

    served(nested, sleeps)
    async with stream(client, "/agents/agt-x/ws", autoping=False) as mine:
        await mine.ping(b"are you there")
        awake.set()
        # Had the place answered by itself, that would have come first.
        assert await mine.receive_str() == "awake"
        message = await mine.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"are you there")


async def test_a_refusal_of_the_sidecar_is_the_clients(
    client: aiohttp.ClientSession, nested: Nested
) -> None:
    async def refuses(_: web.Request) -> web.StreamResponse:
        return web.Response(status=410)

    nested.answer = refuses
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await stream(client, "/agents/agt-x/ws/raw")
    assert refused.value.status == 410


async def test_a_slow_reader_slows_the_writer_down_and_loses_nothing(
    client: aiohttp.ClientSession, nested: Nested
) -> None:
    piece, count = b"z" * 65_536, 2000  # 130 MB: no chain of buffers holds that

    async def pours(stream: web.WebSocketResponse) -> None:
        for number in range(count):
            await stream.send_bytes(number.to_bytes(4, "big") + piece)
            nested.progress = number
        await stream.close()

    served(nested, pours)
    async with stream(client, "/agents/agt-x/ws/raw") as mine:
        assert mine is not None
        await standstill(nested)
        assert nested.progress < count / 2
        for number in range(count):
            data = await mine.receive_bytes()
            assert int.from_bytes(data[:4], "big") == number
        assert (await mine.receive()).type is WSMsgType.CLOSE


async def standstill(nested: Nested) -> None:
    """Return when the writer has come to a stop: it got nowhere in many looks."""
    last, looks = -1, 0
    while looks < 50:
        looks = looks + 1 if nested.progress == last and last > 0 else 0
        last = nested.progress
        await asyncio.sleep(0.02)
