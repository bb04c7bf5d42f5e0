"""WebSockets of a real sidecar around a shell."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.oj_daemon.sidecar.conftest import SHELL
from tests.support.sidecar import SECONDS, Sidecar, sidecar

pytestmark = pytest.mark.e2e  # a real process, and more than one

Socket = aiohttp.ClientWebSocketResponse


async def frame(socket: Socket, event: str = "", **fields: object) -> dict[str, Any]:
    """The next frame of that kind."""
    async with asyncio.timeout(SECONDS):
        while True:
            got: dict[str, Any] = await socket.receive_json()
            if event in {"", got["event"]} and fields.items() <= got.items():
                return got


async def ask(socket: Socket, **fields: object) -> dict[str, Any]:
    await socket.send_json({"request_id": "r", **fields})
    return await frame(socket, request_id="r")


async def type_line(shell: Sidecar, text: str) -> None:
    await asyncio.to_thread(shell.type, text)


async def test_a_listener_gets_the_present_state_and_then_each_change(clear: Sidecar) -> None:
    async with clear.session() as http, http.ws_connect(clear.url("/ws?subscribe=state")) as socket:
        first = await frame(socket)
        assert (first["event"], first["prev"], first["next"]) == ("transition", "idle", "idle")
        assert first["snapshot"] is True
        assert "cause" not in first
        await type_line(clear, "clear; echo WORK; read")
        change = await frame(socket)
        assert (change["prev"], change["next"]) == ("idle", "working")
        assert change["seq"] == first["seq"] + 1
        await type_line(clear, "")
        await type_line(clear, "clear")
        assert (await frame(socket))["next"] == "idle"


async def test_a_listener_that_comes_back_gets_what_it_missed_in_order(clear: Sidecar) -> None:
    since = clear.get("agent").body["since_seq"]
    await type_line(clear, "clear; echo WORK; read")
    await asyncio.to_thread(clear.becomes, "working")
    await type_line(clear, "")
    await type_line(clear, "clear")
    await asyncio.to_thread(clear.becomes, "idle")
    url = clear.url(f"/ws?subscribe=state&since_seq={since}")
    async with clear.session() as http, http.ws_connect(url) as socket:
        missed = [await frame(socket) for _ in range(3)]
        assert [one["next"] for one in missed] == ["working", "idle", "idle"]
        assert [one["seq"] for one in missed] == [since + 1, since + 2, since + 2]
        assert [one.get("snapshot", False) for one in missed] == [False, False, True]
        position = missed[0]["pos"]
    url = clear.url(f"/ws?subscribe=state&since_pos={position}")
    async with clear.session() as http, http.ws_connect(url) as socket:
        assert (await frame(socket))["seq"] == since + 2
    events = clear.get("events/catchup?since_seq=0").body["state_events"]
    assert events[0]["seq"] == 1
    assert [one["seq"] for one in events] == sorted(one["seq"] for one in events)


async def test_terminal_output_is_pushed_by_offset_and_replayed_on_demand(clear: Sidecar) -> None:
    async with clear.session() as http, http.ws_connect(clear.url("/ws?subscribe=pty")) as socket:
        replay = await ask(socket, event="replay:get", offset=0)
        data, end = base64.b64decode(replay["data"]), replay["next_offset"]
        assert len(data) == end - replay["offset"]
        await type_line(clear, "echo pushed-$((3*3))")
        while b"pushed-9" not in data:
            got = await frame(socket, "pty")
            assert got["offset"] == end  # nothing twice, nothing lost
            piece = base64.b64decode(got["data"])
            data, end = data + piece, end + len(piece)


async def test_a_broken_connection_loses_no_byte_and_repeats_none(clear: Sidecar) -> None:
    whole, end = b"", clear.get("output").body["next_offset"]
    await type_line(clear, "for i in $(seq 2000); do echo line-$i; done; echo D''ONE")
    while b"DONE" not in whole:
        async with (
            clear.session() as http,
            http.ws_connect(clear.url("/ws?subscribe=pty")) as socket,
        ):
            replay = await ask(socket, event="replay:get", offset=end)
            assert replay["offset"] == end
            whole += base64.b64decode(replay["data"])
            end = replay["next_offset"]
            if b"DONE" in whole:
                break
            got = await frame(socket, "pty")
            assert got["offset"] == end
            piece = base64.b64decode(got["data"])
            whole, end = whole + piece, end + len(piece)
    lines = re.findall(r"(line-\d+)\r", whole.decode())
    assert lines == [f"line-{number}" for number in range(1, 2001)]


async def test_the_screen_is_pushed_as_it_is_not_as_often_as_it_changes(clear: Sidecar) -> None:
    async with (
        clear.session() as http,
        http.ws_connect(clear.url("/ws?subscribe=screen")) as socket,
    ):
        await frame(socket, "screen")
        await type_line(clear, "clear; for i in $(seq 3000); do echo $i; done; echo LAST")
        count = 0
        while True:
            count += 1
            got = await frame(socket, "screen")
            if "LAST" in got["lines"]:
                break
        assert count < 500


async def test_a_listener_that_does_not_read_is_told_what_it_lost(config: str) -> None:
    """The terminal stream outruns the ring; the state is right afterwards."""
    with sidecar(
        SHELL, "--agent-config", config, "--ring-size", "65536", env={"PS1": "$ "}
    ) as made:
        await asyncio.to_thread(made.becomes, "idle")
        async with made.session() as http:
            socket = await http.ws_connect(made.url("/ws?subscribe=pty,state"), max_msg_size=0)
            transport = socket.get_extra_info("transport") or socket._response.connection.transport  # type: ignore[union-attr]
            assert transport is not None
            transport.pause_reading()
            await type_line(made, "head -c 20000000 /dev/zero | tr '\\0' x; clear; echo WORK; read")
            await asyncio.to_thread(made.becomes, "working")
            transport.resume_reading()
            lagged = await frame(socket, "lagged")
            assert (lagged["stream"], lagged["missed"] > 0) == ("pty", True)
            replay = await frame(socket, "replay")
            assert replay["next_offset"] <= replay["total_written"]
            await socket.close()


async def test_client_frames_mean_what_the_endpoints_mean(clear: Sidecar) -> None:
    async with clear.session() as http, http.ws_connect(clear.url("/ws")) as socket:
        assert (await ask(socket, event="ping"))["event"] == "pong"
        assert (await ask(socket, event="health:get"))["status"] == "running"
        assert (await ask(socket, event="agent:get"))["state"] == "idle"
        assert "lines" in await ask(socket, event="screen:get", cursor=True)
        sent = await ask(socket, event="input:send", text="echo ws-$((5+5))", enter=True)
        assert (sent["event"], sent["bytes_written"]) == ("input:sent", 17)
        await asyncio.to_thread(clear.shows, "ws-10")
        assert (await ask(socket, event="keys:send", keys=["nope"]))["code"] == "BAD_REQUEST"
        assert (await ask(socket, event="resize", cols=0, rows=1))["code"] == "BAD_REQUEST"
        assert (await ask(socket, event="what"))["code"] == "BAD_REQUEST"
        assert (await ask(socket, event="transcript:list"))["transcripts"] == []
        await socket.send_str("{nonsense")
        assert (await frame(socket))["code"] == "BAD_REQUEST"
        assert (await ask(socket, event="ping"))["event"] == "pong"


async def test_nothing_is_pushed_and_nothing_answered_before_authentication(config: str) -> None:
    with sidecar(
        SHELL, "--agent-config", config, env={"PS1": "$ ", "OJ_SIDECAR_TOKEN": "t0ken"}
    ) as made:
        anonymous = made.session
        async with anonymous() as http:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(made.url("/ws"), headers={"Authorization": "Bearer no"})
            assert refused.value.status == 401
            for query in ("/ws?token=t0ken", "/ws/raw"):
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    await http.ws_connect(made.url(query))
            socket = await http.ws_connect(made.url("/ws?subscribe=state,pty,screen"))
            assert (await ask(socket, event="agent:get"))["code"] == "UNAUTHORIZED"
            made.token = "t0ken"
            await asyncio.to_thread(made.becomes, "idle")
            await type_line(made, "echo WORK; read")
            await asyncio.to_thread(made.becomes, "working")
            assert (await ask(socket, event="ping"))["event"] == "pong"  # the very next frame
            assert (await ask(socket, event="auth", token="no"))["code"] == "UNAUTHORIZED"
            await socket.send_json({"event": "auth", "token": "t0ken"})
            assert await frame(socket) == {"event": "auth:ok"}
            assert (await frame(socket, "transition"))["next"] == "working"
            await socket.close()


async def test_a_listener_that_never_authenticates_is_let_go() -> None:
    environ = {"OJ_SIDECAR_TOKEN": "t", "OJ_SIDECAR_AUTH_TIMEOUT_MS": "50"}
    with sidecar(SHELL, env=environ) as made:
        async with made.session() as http, http.ws_connect(made.url("/ws")) as socket:
            message = await socket.receive(SECONDS)
            assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED}


async def read_until(socket: Socket, text: bytes) -> bytes:
    data = b""
    async with asyncio.timeout(SECONDS):
        while text not in data:
            message = await socket.receive()
            if message.type is WSMsgType.BINARY:
                data += message.data
            else:
                assert message.type is WSMsgType.TEXT, message
    return data


async def test_an_attached_terminal_gets_the_screen_then_bytes_and_may_type(clear: Sidecar) -> None:
    await type_line(clear, "clear; echo B''EFORE")
    await asyncio.to_thread(clear.shows, "BEFORE")
    url = clear.url("/ws/raw?cols=90&rows=20")
    async with clear.session() as http, http.ws_connect(url) as socket:
        attached = json.loads(await socket.receive_str())
        assert (attached["event"], attached["cols"], attached["rows"]) == ("attached", 90, 20)
        drawn = await read_until(socket, b"BEFORE")
        assert drawn.startswith(b"\x1bc")
        await socket.send_bytes(b"stty size; printf 'Q\\e[6n\\e[cQ\\n'\r")
        seen = await read_until(socket, b"QQ")  # questions are not for a person's terminal
        assert b"20 90" in seen
        await socket.send_json({"event": "resize", "cols": 200, "rows": 50})
        await socket.send_bytes(b"\x15stty size\r")
        await read_until(socket, b"50 200")
        await socket.send_json({"event": "redraw"})
        assert b"\x1bc" in await read_until(socket, b"50 200")
        await socket.send_bytes(b"\x15")
    assert clear.get("health").body["pid"] is not None


async def test_an_attached_terminal_is_told_how_the_agent_ended() -> None:
    with sidecar(SHELL, env={"PS1": "$ "}) as made:
        async with made.session() as http, http.ws_connect(made.url("/ws/raw")) as socket:
            await socket.send_bytes(b"exit 5\r")
            async with asyncio.timeout(SECONDS):
                messages = [message async for message in socket]
            texts = [json.loads(one.data) for one in messages if one.type is WSMsgType.TEXT]
            assert texts[-1] == {"event": "exit", "code": 5, "signal": None}
