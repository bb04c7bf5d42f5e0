"""WebSockets: state, messages, terminal and screen for whoever listens, with nothing lost unnoticed.

Rule: each listener keeps its own position in what the session remembers, so a slow one costs nobody anything; when it fell
behind what is remembered, it is told so and given the present state. Nothing is pushed before authentication.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec
from aiohttp import WSMsgType, web

from oj_daemon.drivers.base import Json
from oj_daemon.errors import OjError
from oj_daemon.sidecar import frames
from oj_daemon.sidecar.api import Api
from oj_daemon.sidecar.bodies import SizeBody
from oj_daemon.sidecar.frames import Shape
from oj_daemon.sidecar.journal import Journal
from oj_daemon.sidecar.queries import QueryFilter
from oj_daemon.sidecar.values import Broadcast, Transition
from oj_daemon.sidecar.verbs import Verb, error_frame

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 30.0
PTY_CHUNK: Final = 64 * 1024
JOURNALS: Final = ("state", "messages", "hooks", "transcripts")
KINDS: Final = (*JOURNALS, "pty", "screen", "usage")
_ALIASES: Final = {"output": "pty"}
FREE: Final = ("ping", "auth", "health:get", "ready:get")
"""Client frames that need no authentication."""


class Access(NamedTuple):
    """Whether a connection may see and do anything yet."""

    is_granted: bool
    check: Callable[[str], bool]
    """Whether this is the token."""


class Listener:
    """One `/ws` connection."""

    def __init__(
        self,
        api: Api,
        socket: web.WebSocketResponse,
        verbs: Mapping[str, Verb],
        access: Access,
        query: Mapping[str, str],
    ) -> None:
        self._api = api
        self._session = session = api.session
        self._socket = socket
        self._verbs = verbs
        self._check = access.check
        self._wake = asyncio.Event()
        self._authentic = asyncio.Event()
        if access.is_granted:
            self._authentic.set()
        names = [_ALIASES.get(name, name) for name in query.get("subscribe", "").split(",")]
        self._kinds = [name for name in KINDS if name in names]
        self._since = {
            "seq": _count(query.get("since_seq")),
            "pos": _count(query.get("since_pos")),
            "hooks": _count(query.get("since_hook_seq")),
            "messages": _count(query.get("since_message")),
        }
        self._journals: dict[str, Journal] = {
            "state": session.states,
            "messages": session.messages,
            "hooks": session.hooks,
            "transcripts": session.transcript_frames,
        }
        self._positions = {name: journal.last for name, journal in self._journals.items()}
        self._pty_offset = session.ring.total
        self._screen_sent = -1
        self._screen_at = 0.0

    async def run(self) -> None:
        """Serve the connection until one side closes it."""
        session = self._session
        session.listeners.add(self._wake)
        session.ws_clients += 1
        try:
            async with asyncio.TaskGroup() as group:
                pushing = group.create_task(self._push())
                await self._listen()
                pushing.cancel()
        except* (ConnectionError, RuntimeError) as errors:
            logger.debug("a listener is gone: %s", errors.exceptions[0])
        finally:
            session.listeners.discard(self._wake)
            session.ws_clients -= 1

    # -- down ------------------------------------------------------------------------------------------------------

    async def _push(self) -> None:
        try:
            async with asyncio.timeout(self._session.delays.auth_timeout_ms / 1000):
                await self._authentic.wait()
        except TimeoutError:
            await self._socket.close(code=4401, message=b"not authenticated")
            return
        await self._begin()
        while not self._socket.closed:
            self._wake.clear()
            for kind in self._kinds:
                if kind in self._journals:
                    await self._push_journal(kind)
            if "pty" in self._kinds:
                await self._push_pty()
            if "screen" in self._kinds:
                await self._push_screen()
            if self._session.is_over:
                await self._socket.close(code=1001, message=b"the agent is gone")
                return
            await self._wake.wait()

    async def _begin(self) -> None:
        """Where each stream starts: what was asked for, or now."""
        states, since = self._session.states, self._since
        if "state" in self._kinds:
            if since["pos"] is not None:
                self._positions["state"] = min(since["pos"], states.last)
            elif since["seq"] is not None:
                self._positions["state"] = states.position_before(since["seq"])
            if since["pos"] is not None or since["seq"] is not None:
                await self._push_journal("state")
            await self._send(self._snapshot())
        if "hooks" in self._kinds and since["hooks"] is not None:
            self._positions["hooks"] = min(since["hooks"], self._session.hooks.last)
        if "messages" in self._kinds and since["messages"] is not None:
            self._positions["messages"] = min(since["messages"], self._session.messages.last)

    def _snapshot(self) -> Shape:
        output = self._session.machine.snapshot()
        event = output.event if isinstance(output, Broadcast) else output
        if not isinstance(event, Transition):
            raise TypeError("the snapshot of a state is a transition")
        shape = frames.event_shape(event)
        shape.pop("cause", None)
        return shape | {"snapshot": True, "pos": self._session.states.last}

    async def _push_journal(self, kind: str) -> None:
        journal = self._journals[kind]
        while True:
            entries, missed = journal.after(self._positions[kind])
            if missed:
                self._positions[kind] += missed
                await self._send({"event": "lagged", "stream": kind, "missed": missed})
                if kind == "state":
                    await self._send(self._snapshot())
            if not entries:
                return
            for entry in entries:
                is_usage = kind == "state" and '"usage:update"' in entry.text[:30]
                if is_usage and "usage" not in self._kinds:
                    continue
                is_placed = kind in ("state", "messages")
                await self._socket.send_str(entry.placed if is_placed else entry.text)
            self._positions[kind] = entries[-1].position

    async def _push_pty(self) -> None:
        ring = self._session.ring
        while self._pty_offset < ring.total:
            piece = ring.read(self._pty_offset, PTY_CHUNK)
            missed = piece.offset - self._pty_offset
            if missed:
                await self._send({"event": "lagged", "stream": "pty", "missed": missed})
            frame: Shape = {"data": base64.b64encode(piece.data).decode(), "offset": piece.offset}
            if missed:
                frame |= {
                    "event": "replay",
                    "next_offset": piece.next_offset,
                    "total_written": ring.total,
                }
            else:
                frame |= {"event": "pty"}
            self._pty_offset = piece.next_offset
            await self._send(frame)

    async def _push_screen(self) -> None:
        session, loop = self._session, asyncio.get_running_loop()
        if self._screen_sent == session.screen_seq:
            return
        due = self._screen_at + session.delays.screen_debounce_ms / 1000
        if loop.time() < due:
            loop.call_at(due, self._wake.set)
            return
        self._screen_sent, self._screen_at = session.screen_seq, loop.time()
        await self._send({"event": "screen", **self._api.screen(cursor=True)})

    async def _send(self, shape: Shape) -> None:
        await self._socket.send_str(frames.encode(shape))

    # -- up --------------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                await self._send(error_frame("BAD_REQUEST", "frames are JSON text"))
                continue
            try:
                frame = msgspec.json.decode(message.data)
            except msgspec.MsgspecError:
                frame = None
            if not isinstance(frame, dict):
                await self._send(error_frame("BAD_REQUEST", "a frame is a JSON object"))
                continue
            reply = await self._answer(frame)
            if "request_id" in frame:
                reply = reply | {"request_id": frame["request_id"]}
            await self._send(reply)

    async def _answer(self, frame: Json) -> Shape:
        name = frame.get("event")
        if name == "ping":
            return {"event": "pong"}
        if name == "auth":
            return self._authenticate(frame.get("token"))
        if not self._authentic.is_set() and name not in FREE:
            return error_frame("UNAUTHORIZED", "send an auth frame first")
        if name == "replay:get":
            return self._replay(frame)
        verb = self._verbs.get(name) if isinstance(name, str) else None
        return (
            await verb(frame) if verb else error_frame("BAD_REQUEST", f"there is no frame {name!r}")
        )

    def _authenticate(self, token: object) -> Shape:
        if not isinstance(token, str) or not self._check(token):
            return error_frame("UNAUTHORIZED", "that is not the token")
        self._authentic.set()
        return {"event": "auth:ok"}

    def _replay(self, frame: Json) -> Shape:
        offset, limit = frame.get("offset", 0), frame.get("limit")
        if not isinstance(offset, int) or not isinstance(limit, int | None):
            return error_frame("BAD_REQUEST", "offset and limit are numbers")
        piece = self._session.ring.read(offset, limit)
        # What this reply covers is not pushed as well.
        if piece.offset <= self._pty_offset:
            self._pty_offset = max(self._pty_offset, piece.next_offset)
        return {"event": "replay", **self._api.output(offset, limit)}


class Attachment:
    """One `/ws/raw` connection: a person's terminal. Binary frames are bytes, text frames are JSON."""

    def __init__(self, api: Api, socket: web.WebSocketResponse) -> None:
        self._api = api
        self._session = api.session
        self._socket = socket
        self._wake = asyncio.Event()
        self._offset = 0
        self._filter = QueryFilter()

    async def run(self) -> None:
        """Serve the connection until one side closes it."""
        session = self._session
        session.listeners.add(self._wake)
        session.ws_clients += 1
        try:
            async with asyncio.TaskGroup() as group:
                pushing = group.create_task(self._push())
                await self._listen()
                pushing.cancel()
        except* (ConnectionError, RuntimeError) as errors:
            logger.debug("an attached terminal is gone: %s", errors.exceptions[0])
        finally:
            session.listeners.discard(self._wake)
            session.ws_clients -= 1

    async def _push(self) -> None:
        session = self._session
        await self._text({"event": "attached", "cols": session.cols, "rows": session.rows,
                          "state": str(session.machine.state)})  # fmt: skip
        await self._redraw()
        while True:
            self._wake.clear()
            while self._offset < session.ring.total:
                piece = session.ring.read(self._offset, PTY_CHUNK)
                if piece.offset > self._offset:
                    await self._redraw()  # too slow for the ring: the screen as it is now
                    continue
                self._offset = piece.next_offset
                if data := self._filter.feed(piece.data):
                    await self._socket.send_bytes(data)
            if session.ended is not None and not session.is_replacing:
                ended = session.ended
                await self._text({"event": "exit", "code": ended.code, "signal": ended.signal})
                await self._socket.close()
                return
            await self._wake.wait()

    async def _redraw(self) -> None:
        self._offset = self._session.ring.total
        self._filter = QueryFilter()
        await self._socket.send_bytes(self._session.screen.restore())

    async def _text(self, shape: Shape) -> None:
        await self._socket.send_str(frames.encode(shape))

    async def _listen(self) -> None:
        async for message in self._socket:
            try:
                if message.type is WSMsgType.BINARY:
                    await self._session.type_raw(message.data)
                elif message.type is WSMsgType.TEXT:
                    await self._control(message.data)
            except OjError as error:
                with contextlib.suppress(ConnectionError):
                    await self._text(error_frame(error.code.upper(), error.message))

    async def _control(self, text: str) -> None:
        try:
            frame = msgspec.json.decode(text, type=_Control)
        except msgspec.MsgspecError as error:
            await self._text(error_frame("BAD_REQUEST", str(error)))
            return
        match frame.event:
            case "resize":
                self._api.resize(SizeBody(frame.cols, frame.rows))
            case "redraw":
                await self._redraw()
            case "ping":
                await self._text({"event": "pong"})
            case _:
                await self._text(error_frame("BAD_REQUEST", f"cannot do {frame.event!r}"))


class _Control(msgspec.Struct, frozen=True):
    event: str
    cols: int = 0
    rows: int = 0


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
