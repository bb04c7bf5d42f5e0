"""The HTTP port: what is answered, and that nobody can keep others from being answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from oj_daemon import health
from oj_daemon.errors import OjError
from oj_daemon.readiness import Readiness

PATIENCE = 30.0


class FakeFigures:
    """Metrics of which the test says what they are."""

    def __init__(self) -> None:
        self.text = b"oj_up 1\n"
        self.error: Exception | None = None
        self.lags: list[float] = []
        self.ticked = asyncio.Event()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        if self.error is not None:
            raise self.error
        return self.text + accept.encode(), "text/plain; version=0.0.4; charset=utf-8"

    def note_lag(self, seconds: float) -> None:
        self.lags.append(seconds)
        self.ticked.set()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Port:
    """An HTTP port of this process."""

    def __init__(self, readiness: Readiness, figures: FakeFigures, port: int) -> None:
        self.readiness, self.figures, self.port = readiness, figures, port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def send(self, data: bytes) -> bytes:
        """Everything that is answered until the other side hangs up."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            return await reader.read()
        finally:
            writer.close()

    async def ask(self, path: str, method: str = "GET", headers: str = "") -> Answer:
        data = await self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        head, _, body = data.decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return Answer(int(first.split()[1]), {name.lower(): text for name, text in pairs}, body)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Port]:
    readiness, figures = Readiness("log", "lease"), FakeFigures()
    async with (
        asyncio.timeout(PATIENCE),
        health.serve("127.0.0.1", 0, readiness, figures) as port,
    ):
        yield Port(readiness, figures, port)


async def nobody_left(before: set[asyncio.Task[Any]]) -> None:
    """Wait until the task of every connection has ended."""
    async with asyncio.timeout(PATIENCE):
        while asyncio.all_tasks() - before:  # noqa: ASYNC110 - they are aiohttp's, which tells nobody
            await asyncio.sleep(0.01)


# What is answered


async def test_it_lives_before_it_is_ready() -> None:
    async with serving() as port:
        for path in ("/healthz", "/livez"):
            answer = await port.ask(path)
            assert (answer.status, answer.json) == (200, {"status": "ok"})
        assert (await port.ask("/readyz")).status == 503


async def test_readiness_names_each_condition_and_why_it_is_not_met() -> None:
    async with serving() as port:
        port.readiness.set("log", True, "record 7")
        port.readiness.set("lease", False, "held by oj-1")
        answer = await port.ask("/readyz")
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (
            503,
            "application/json",
        )
        assert answer.json == {
            "ready": False,
            "conditions": [
                {"name": "log", "ok": True, "reason": "record 7"},
                {"name": "lease", "ok": False, "reason": "held by oj-1"},
            ],
            "broken": "",
        }
        port.readiness.set("lease", True)
        answer = await port.ask("/readyz")
        assert (answer.status, answer.json["ready"]) == (200, True)


async def test_a_daemon_that_cannot_write_its_log_is_neither_alive_nor_ready() -> None:
    async with serving() as port:
        port.readiness.set("log", True)
        port.readiness.set("lease", True)
        port.readiness.fail("disk full")
        answer = await port.ask("/healthz")
        assert (answer.status, answer.json) == (500, {"status": "broken", "reason": "disk full"})
        answer = await port.ask("/readyz")
        assert (answer.status, answer.json["broken"]) == (503, "disk full")


async def test_metrics_are_text_in_the_form_that_the_scraper_asks_for() -> None:
    async with serving() as port:
        answer = await port.ask("/metrics", headers="Accept: text/plain\r\n")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert (answer.status, answer.body) == (200, "oj_up 1\ntext/plain")


async def test_metrics_that_fail_are_an_error_and_a_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as port:
        port.figures.error = ValueError("odd")
        answer = await port.ask("/metrics")
        assert (answer.status, answer.body) == (500, "internal error; see oj daemon logs\n")
        assert (await port.ask("/healthz")).status == 200
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "/metrics failed"
    ]


async def test_head_is_answered_like_get_without_a_body() -> None:
    async with serving() as port:
        got, head = await port.ask("/metrics"), await port.ask("/metrics", "HEAD")
        assert (head.status, head.body) == (200, "")
        assert head.headers["content-length"] == got.headers["content-length"] == "8"


@pytest.mark.parametrize("path", ["/", "/healthz/", "/metrics/x", "//healthz", "/..%2fhealthz"])
async def test_any_other_path_is_not_found(path: str) -> None:
    async with serving() as port:
        assert (await port.ask(path)).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT"])
async def test_any_other_method_is_refused(method: str) -> None:
    async with serving() as port:
        answer = await port.ask("/healthz", method)
        assert answer.status in (400, 404, 405), answer
        if method != "CONNECT":
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("length", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_a_body_is_refused_without_being_waited_for(length: str) -> None:
    async with serving() as port:
        answer = await port.ask("/healthz", headers=f"{length}\r\n")
        assert answer.status == 413


async def test_every_answer_ends_the_connection_and_tells_nothing_of_what_it_is_made_with() -> None:
    async with serving() as port:
        for path in ("/healthz", "/readyz", "/metrics", "/other"):
            answer = await port.ask(path)
            assert answer.headers["connection"] == "close"
            assert (answer.headers["server"], answer.headers["cache-control"]) == ("oj", "no-store")


# Bad visitors


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff\x00\xff\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(500)) + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_sound_request_is_refused_and_the_log_stays_quiet(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as port:
        with caplog.at_level(logging.INFO), contextlib.suppress(ConnectionError):
            answered = await port.send(data)
            assert answered == b"" or b" 400 " in answered.split(b"\r\n", 1)[0], answered
            assert b"aiohttp" not in answered
        assert (await port.ask("/healthz")).status == 200
    assert [record.getMessage() for record in caplog.records if "probes" not in record.msg] == []


async def test_a_second_request_on_a_connection_is_not_answered() -> None:
    async with serving() as port:
        request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await port.send(request * 3)).count(b"HTTP/1.1 200") == 1


async def test_clients_that_say_nothing_keep_no_probe_out_and_the_oldest_has_to_go() -> None:
    async with serving() as port:
        idle = [await port.connect() for _ in range(health.CONNECTIONS)]
        idle[0][1].write(b"GET /healthz HT")
        assert (await port.ask("/healthz")).status == 200
        with contextlib.suppress(ConnectionError):
            assert await idle[0][0].read() == b""
        for _, writer in idle:
            writer.close()


async def test_a_connection_does_not_last_though_its_client_goes_on_sending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "CONNECTION_SECONDS", 0.05)
    async with serving() as port:
        reader, writer = await port.connect()
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"G")
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()


async def test_a_client_that_does_not_read_is_hung_up_on_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "CONNECTION_SECONDS", 0.3)
    async with serving() as port:
        before = asyncio.all_tasks()
        port.figures.text = b"x" * (64 << 20)
        deaf = socket.create_connection(("127.0.0.1", port.port))
        try:
            deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await port.ask("/healthz")).status == 200
            await nobody_left(before)
            # The whole text was never sent: after what the kernel had taken comes the end.
            deaf.settimeout(PATIENCE)
            got = 0
            with contextlib.suppress(ConnectionError):
                while piece := await asyncio.to_thread(deaf.recv, 1 << 20):
                    got += len(piece)
            assert got < 64 << 20
        finally:
            deaf.close()


# Beginning and end


async def test_a_port_that_is_taken_is_an_error_that_says_which_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(OjError, match=rf"^listen on 127\.0\.0\.1 port {number} .*in use") as no:
            async with health.serve("127.0.0.1", number, Readiness(), FakeFigures()):
                pytest.fail("it listens")
    assert "OJ_HTTP_PORT" in no.value.hint


async def test_an_address_that_is_none_is_an_error_too() -> None:
    with pytest.raises(OjError, match=r"^listen on 300\.1\.1\.1 port 0 "):
        async with health.serve("300.1.1.1", 0, Readiness(), FakeFigures()):
            pytest.fail("it listens")


async def test_the_end_waits_for_no_client_and_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with serving() as port:
        reader, writer = await port.connect()
        writer.write(b"GET /heal")
        await port.ask("/healthz")
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    await nobody_left(before)
    with pytest.raises(ConnectionRefusedError):
        await port.connect()


async def test_the_lag_of_the_event_loop_is_told_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "TICK_SECONDS", 0.01)
    async with serving() as port:
        for _ in range(3):
            port.figures.ticked.clear()
            await port.figures.ticked.wait()
    assert len(port.figures.lags) >= 3
    assert all(lag >= 0 for lag in port.figures.lags)


def test_lag_is_how_much_later_than_due_a_tick_comes() -> None:
    loop = asyncio.new_event_loop()
    now = [100.0]
    loop.time = lambda: now[0]  # type: ignore[method-assign]
    lags: list[float] = []
    try:
        pulse = health.Pulse(loop, lags.append)
        now[0] += health.TICK_SECONDS + 2.5
        pulse._beat()
        now[0] += health.TICK_SECONDS
        pulse._beat()
        pulse.stop()
        assert pulse._handle.cancelled()
    finally:
        loop.close()
    assert lags == [2.5, 0.0]
