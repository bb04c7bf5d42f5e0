"""A person's terminal joined to an agent's: frames of the client to the sidecar's `/ws/raw`, and back.

Rule: bytes pass unread and in order, and neither side is read faster than the other takes. Whatever ends the pump, the agent
stays as it is, and the client is told why as long as it can be told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from oj_daemon.adapters.session import Session
from oj_daemon.errors import AdapterError
from oj_daemon.wire.frames import DATA, DETACH, EXIT, RESIZE
from oj_daemon.wire.replies import AgentAttached

if TYPE_CHECKING:
    from aiohttp import ClientWebSocketResponse

logger = logging.getLogger(__name__)

LARGEST_SIDE: Final = 1000
"""Columns or rows."""
PIECE: Final = 64 * 1024
"""Bytes of the terminal in one frame."""


class Channel(Protocol):
    """A connection that carries frames of a terminal."""

    async def receive(self) -> bytes | None:
        """The next frame; None when there will be none."""
        ...

    async def send(self, payload: bytes) -> None:
        """Send a frame; returns when the client keeps up."""
        ...


class Upgrade(NamedTuple):
    """A reply after which the connection belongs to `serve`."""

    reply: AgentAttached
    serve: Callable[[Channel], Awaitable[None]]


class _Size(msgspec.Struct, frozen=True):
    cols: int
    rows: int


def goodbye(reason: str, *, again: bool = False) -> bytes:
    """The frame with which the daemon leaves; `again` when attaching once more may help."""
    return bytes([DETACH]) + msgspec.json.encode({"reason": reason, "again": again})


def _never() -> str:
    return ""


async def serve(
    channel: Channel,
    session: Session,
    cols: int,
    rows: int,
    *,
    ended: Callable[[], str] = _never,
) -> None:
    """Carry bytes both ways until one side has had enough, or `ended` says why nothing may pass any more."""
    try:
        async with session.terminal(*_bounded(cols, rows)) as socket, asyncio.TaskGroup() as group:
            typing = group.create_task(_up(channel, socket, ended))
            farewell = await _down(socket, channel, ended)
            is_left = typing.done() and not ended()
            typing.cancel()
            if not is_left:
                await channel.send(farewell)
    except AdapterError as error:
        await channel.send(goodbye(error.message))


async def _up(channel: Channel, socket: ClientWebSocketResponse, ended: Callable[[], str]) -> None:
    """What the person types, until they leave or may not."""
    try:
        while (payload := await channel.receive()) is not None and not ended():
            kind, data = payload[0], payload[1:]
            if kind == DATA:
                await socket.send_bytes(data)
            elif kind == RESIZE:
                size = msgspec.json.decode(data, type=_Size)
                cols, rows = _bounded(size.cols, size.rows)
                if cols and rows:
                    await socket.send_json({"event": "resize", "cols": cols, "rows": rows})
                await socket.send_json({"event": "redraw"})
            elif kind == DETACH:
                break
    except (msgspec.MsgspecError, ConnectionError) as error:
        logger.debug("an attached terminal: %s", error)
    await socket.close()


async def _down(
    socket: ClientWebSocketResponse, channel: Channel, ended: Callable[[], str]
) -> bytes:
    """What the agent shows, until it ends; returns what to say to the person then."""
    import aiohttp  # noqa: PLC0415 - loaded by the session

    async for message in socket:
        if ended():
            break
        if message.type is aiohttp.WSMsgType.BINARY:
            for start in range(0, len(message.data), PIECE):
                await channel.send(bytes([DATA]) + message.data[start : start + PIECE])
        elif message.type is aiohttp.WSMsgType.TEXT:
            frame = msgspec.json.decode(message.data, type=dict[str, object])
            if frame.get("event") == "exit":
                how = {"code": frame.get("code"), "signal": frame.get("signal")}
                return bytes([EXIT]) + msgspec.json.encode(how)
    return goodbye(ended() or "its session has ended")


def _bounded(cols: int, rows: int) -> tuple[int, int]:
    """A size that a terminal can have; zeros leave it as it is."""
    if cols <= 0 or rows <= 0:
        return 0, 0
    return min(cols, LARGEST_SIDE), min(rows, LARGEST_SIDE)
