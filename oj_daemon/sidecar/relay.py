"""The way through a place to the sidecars of its agents: `/agents/<name>/...` goes to `<folder>/agents/<name>/sock`.

Rule: bytes are passed on as they come, both ways, and nobody reads faster than the other side writes. Pings and the words of a
close are passed on too, so each end knows about the other and not only about us. What lets a client into the place stays
here: a nested sidecar's socket is open to its owner and needs none of it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import WSMsgType, web
from multidict import CIMultiDict
from yarl import URL

from oj_daemon.sidecar.bodies import MESSAGE_MOST, Refused
from oj_daemon.sidecar.options import AGENT_NAME_MOST

logger = logging.getLogger(__name__)

PREFIX: Final = "/agents/"
CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 60.0
"""Longest wait for the beginning of a reply."""
CLOSE_SECONDS: Final = 2.0
"""How long a side may take to say goodbye."""
_NAME: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{AGENT_NAME_MOST - 1}}}")
_OURS: Final = frozenset({
    "authorization", "connection", "cookie", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""Headers that belong to one connection, or that let in here."""
_HANDSHAKE: Final = "sec-websocket-"
_DATA: Final = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)
_NO_CODE: Final = (0, 1005, 1006, 1015)
"""What stands for a close without a code, and may not be sent."""

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse[bool]


class Relay:
    """Passes requests on to the agents of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "agents"

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register it."""
        router.add_route("*", PREFIX + "{name}/{rest:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request or one WebSocket, from beginning to end."""
        name, target = self._target(request)
        path = self._folder / name / "sock"
        if not path.is_socket():
            raise Refused(404, "NOT_FOUND", f"there is no agent '{name}' in this place")
        async with _client(path) as client:
            if web.WebSocketResponse().can_prepare(request).ok:
                return await _pass_socket(request, client, name, target)
            return await _pass_request(request, client, name, target)

    def _target(self, request: web.Request) -> tuple[str, URL]:
        """Who is meant, and what is asked of it, in exactly the words of the client."""
        name = request.match_info["name"]
        rest = request.rel_url.raw_path.removeprefix(f"{PREFIX}{name}/")
        if not _NAME.fullmatch(name) or rest == request.rel_url.raw_path:
            raise Refused(404, "NOT_FOUND", "no agent has such a name")
        query = request.rel_url.raw_query_string
        return name, URL(f"http://sidecar/{rest}{'?' if query else ''}{query}", encoded=True)


@asynccontextmanager
async def _client(path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(path=str(path)),
        timeout=timeout,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as client:
        yield client


def _silent(name: str, error: BaseException) -> Refused:
    is_late = isinstance(error, TimeoutError)
    reason = "there was no answer in time" if is_late else str(error) or type(error).__name__
    return Refused(502, "UNREACHABLE", f"the sidecar of agent '{name}' does not answer: {reason}")


def _headers(given: Mapping[str, str]) -> CIMultiDict[str]:
    """What is for the other side."""
    named = {word.strip().lower() for word in given.get("Connection", "").split(",")}
    passed: CIMultiDict[str] = CIMultiDict()
    for key, value in given.items():
        lower = key.lower()
        if lower not in _OURS and lower not in named and not lower.startswith(_HANDSHAKE):
            passed.add(key, value)
    return passed


async def _pass_request(
    request: web.Request, client: aiohttp.ClientSession, name: str, target: URL
) -> web.StreamResponse:
    response: web.StreamResponse | None = None
    try:
        async with asyncio.timeout(ANSWER_SECONDS) as patience:
            async with client.request(
                request.method,
                target,
                headers=_headers(request.headers),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            ) as reply:
                patience.reschedule(None)
                response = web.StreamResponse(
                    status=reply.status, reason=reply.reason, headers=_headers(reply.headers)
                )
                await response.prepare(request)
                async for data in reply.content.iter_any():
                    await response.write(data)
                await response.write_eof()
                return response
    except (aiohttp.ClientError, OSError) as error:
        if response is None:
            raise _silent(name, error) from error
        # Half of a reply must not look like a whole one.
        logger.debug("a reply of %s broke: %s", name, error)
        if request.transport is not None:
            request.transport.abort()
        return response


async def _pass_socket(
    request: web.Request, client: aiohttp.ClientSession, name: str, target: URL
) -> web.StreamResponse:
    closing = aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            inner = await client.ws_connect(
                target,
                headers=_headers(request.headers),
                autoclose=False,
                autoping=False,
                max_msg_size=0,
                timeout=closing,
            )
    except aiohttp.WSServerHandshakeError as error:
        raise Refused(error.status, "REFUSED", f"agent '{name}' refused the stream") from error
    except (aiohttp.ClientError, OSError) as error:
        raise _silent(name, error) from error
    outer = web.WebSocketResponse(
        autoclose=False,
        autoping=False,
        compress=False,
        max_msg_size=MESSAGE_MOST,
        timeout=CLOSE_SECONDS,
    )
    try:
        await outer.prepare(request)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(outer, inner))
            group.create_task(_pump(inner, outer))
    finally:
        await inner.close(code=aiohttp.WSCloseCode.GOING_AWAY)
    return outer


async def _pump(source: Socket, sink: Socket) -> None:
    """Pass on what one side says until it closes, then close the other with the same words."""
    code, reason = int(aiohttp.WSCloseCode.GOING_AWAY), b""
    try:
        while (message := await source.receive()).type in _DATA:
            await _send(sink, message.type, message.data)
        if message.type is WSMsgType.CLOSE:
            code = 1000 if message.data in _NO_CODE else message.data
            reason = (message.extra or "").encode()
            await source.close(code=code)
        elif source.close_code not in {None, *_NO_CODE}:
            code = int(source.close_code or code)
    except (ConnectionError, aiohttp.ClientError, RuntimeError) as error:
        logger.debug("a stream broke: %s", error)
    await sink.close(code=code, message=reason)


async def _send(sink: Socket, kind: WSMsgType, data: str | bytes) -> None:
    if isinstance(data, str):
        await sink.send_str(data)
    elif kind is WSMsgType.BINARY:
        await sink.send_bytes(data)
    elif kind is WSMsgType.PING:
        await sink.ping(data)
    else:
        await sink.pong(data)
