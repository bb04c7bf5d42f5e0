"""Accepts connections on the unix socket and answers requests, one after the other, in the order they came.

Rule: knows frames, limits and who may connect; what a request means is the handler's business. Every request gets a reply:
what cannot be read an Error, a handler that crashes an Error and a traceback in the log. A client that goes away ends the
question it asked, but never a change that was already accepted. One task per connection, in the TaskGroup of the listener.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from oj_daemon.attach import Upgrade, goodbye
from oj_daemon.build import identity
from oj_daemon.errors import OjError, WireError
from oj_daemon.settings import SOCKET_PATH_LIMIT
from oj_daemon.wire.frames import MAX_REPLY, MAX_REQUEST, FrameReader, frame
from oj_daemon.wire.names import PROTOCOL
from oj_daemon.wire.replies import AnyReply, Error, HelloReply
from oj_daemon.wire.requests import AnyRequest, Hello, is_query

logger = logging.getLogger(__name__)

Handle = Callable[[AnyRequest], Awaitable[AnyReply | Upgrade]]
"""Answers one request; raises OjError to refuse. An Upgrade takes the connection over."""

WIRE_CODES: Final = frozenset(
    {"not_found", "ambiguous", "invalid", "conflict", "unauthorized", "unavailable", "internal"}
)
QUEUED_FRAMES: Final = 64
"""Requests that may wait on one connection before we stop reading from it."""
BACKLOG: Final = 128
STOPPING: Final = "the daemon is stopping"
"""What a person in an agent's terminal is told at the end."""
ALWAYS_WELCOME: Final = frozenset({0})
"""Users besides our own: root may do as it likes anyway."""


class Limits(NamedTuple):
    """What one client, and all of them together, may take."""

    connections: int = 256
    request_bytes: int = MAX_REQUEST
    reply_bytes: int = MAX_REPLY
    first_seconds: float = 5.0
    """Until the first request has arrived whole."""
    idle_seconds: float = 60.0
    """Between requests, and between two pieces of one."""


@contextlib.asynccontextmanager
async def listen(path: Path, handle: Handle, limits: Limits = Limits()) -> AsyncIterator[Listener]:  # noqa: B008 - immutable
    """Accept connections while the block runs; at its end hang up on everybody and remove the socket.

    The caller holds the lock of the state folder: a socket found at `path` belongs to nobody any more.
    """
    bound = bind(path)
    ours = _inode(path)
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            listener = Listener(handle, limits, group)
            server = await asyncio.get_running_loop().create_unix_server(
                listener.accept, sock=bound, backlog=BACKLOG
            )
            try:
                yield listener
            except BaseException as exc:  # noqa: BLE001 - raised again below, and not wrapped into a group of one
                failure = exc
            finally:
                server.close()
                listener.hang_up()
    finally:
        bound.close()
        _remove_socket(path, ours)
    if failure is not None:
        raise failure


def bind(path: Path) -> socket.socket:
    """A bound socket that only its owner may use; nobody can connect before somebody listens on it."""
    check_path(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise WireError(
                    f"listen on {path}: it exists and is not a socket",
                    code="conflict",
                    hint=f"move {path} away",
                )
            path.unlink()
        bound.bind(str(path))
        path.chmod(0o600)
    except OSError as exc:
        bound.close()
        raise WireError(
            f"listen on {path}: {exc.strerror or exc}", code="unavailable", hint="oj doctor"
        ) from exc
    except BaseException:
        bound.close()
        raise
    return bound


def check_path(path: Path) -> None:
    """Raise if the kernel cannot take `path` for a socket."""
    size = len(os.fsencode(path))
    if size > SOCKET_PATH_LIMIT:
        raise WireError(
            f"socket path too long: {path} has {size} bytes, the limit is {SOCKET_PATH_LIMIT}",
            code="path_too_long",
            hint="set OJ_STATE_DIR to a folder with a shorter path",
        )


class Listener:
    """All connections of one socket."""

    def __init__(self, handle: Handle, limits: Limits, group: asyncio.TaskGroup) -> None:
        self.handle = handle
        self.limits = limits
        self.group = group
        self.connections: set[Connection] = set()

    def accept(self) -> Connection:
        """The protocol object of a connection that has just been made."""
        return Connection(self)

    def hang_up(self) -> None:
        """End every connection, whatever it waits for: what was accepted is in the log, and nobody answers any more."""
        for connection in tuple(self.connections):
            connection.end()


class Connection(asyncio.Protocol):
    """One client: frames in, replies out, in order."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._limits = listener.limits
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(listener.limits.request_bytes)
        self._frames: deque[bytes] = deque()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] | None = None
        """Resolved when there is something to do; None while the task is busy."""
        self._room: asyncio.Future[None] | None = None
        """Resolved when the client has read enough of what we wrote; None while it keeps up."""
        self._watchdog: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        """When the client has been silent for too long; 0 while it waits for us."""
        self._paused = False
        self._closing = False
        self._interruptible = False
        """The running request is a question, which nobody misses when its client is gone."""
        self._refusal: Error | None = None
        """Why nothing on this connection is carried out."""
        self._is_attached = False
        """It carries a terminal, and no requests any more."""

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check who it is and start to serve."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream socket has one
        self._transport = transport
        listener = self._listener
        refusal = _check_peer(transport.get_extra_info("socket"))
        if refusal is None and len(listener.connections) >= self._limits.connections:
            refusal = Error(
                f"too many connections ({self._limits.connections})",
                code="unavailable",
                hint="try again later",
            )
        if refusal is not None:
            logger.warning("connection refused: %s", refusal.message)
            self._send(refusal)
            transport.close()
            return
        listener.connections.add(self)
        self._deadline = self._loop.time() + self._limits.first_seconds
        self._watchdog = self._loop.call_at(self._deadline, self._watch)
        self._task = listener.group.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Collect frames."""
        if self._closing or self._task is None:
            return
        try:
            frames = self._reader.feed(data)
        except WireError:
            frames = []  # the task reads `problem` when it gets there
        self._frames.extend(frames)
        if self._deadline and not frames:
            self._deadline = max(
                self._deadline,
                self._loop.time() + min(self._limits.first_seconds, self._limits.idle_seconds),
            )
        if len(self._frames) >= QUEUED_FRAMES or self._reader.problem is not None:
            self._pause()
        if (
            (frames or self._reader.problem is not None)
            and self._news is not None
            and not self._news.done()
        ):
            self._news.set_result(None)

    def eof_received(self) -> bool:
        """The client has gone: what it asked is not needed any more, what it ordered goes on."""
        self._abandon()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """The same, and nothing can be written any more."""
        self._abandon()
        self._listener.connections.discard(self)
        if self._watchdog is not None:
            self._watchdog.cancel()

    def pause_writing(self) -> None:
        """The client does not read: no further request of it is begun."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    def end(self) -> None:
        """Hang up from our side."""
        self._interruptible = True
        if self._is_attached and self._transport is not None:
            self._transport.write(frame(goodbye(STOPPING, again=True)))
        self._abandon()
        if self._transport is not None:
            self._transport.close()

    # The task of the connection

    async def _serve(self) -> None:
        try:
            while (payload := await self._next()) is not None:
                self._deadline = 0.0
                keep = await self._answer(payload)
                if not keep or self._closing:
                    break
                self._deadline = self._loop.time() + self._limits.idle_seconds
        except asyncio.CancelledError:
            # Ours, from _abandon; anything else comes from a listener that is being cancelled as a whole.
            if not self._closing:
                raise
        except Exception:
            logger.exception("connection ended by a bug")
        finally:
            self._closing = True
            if self._transport is not None:
                self._transport.close()

    async def _next(self) -> bytes | None:
        """The next request; None when there will be none."""
        while not self._frames:
            if self._closing:
                return None
            if self._reader.problem is not None:
                problem = self._reader.problem
                self._send(Error(problem.message, code="invalid"))
                return None
            self._resume()
            self._news = self._loop.create_future()
            self._interruptible = True
            try:
                await self._news
            finally:
                self._interruptible = False
                self._news = None
        if self._room is not None:
            await self._room
        # While there was no room the client may have gone, and what it had asked for with it.
        return self._frames.popleft() if self._frames else None

    async def _answer(self, payload: bytes) -> bool:
        """Reply to one request; False when the stream after it makes no sense."""
        try:
            request = _decoder().decode(payload)
        except msgspec.ValidationError as exc:
            self._send(
                Error(
                    _explain(exc),
                    code="invalid",
                    hint="do oj and its daemon have the same version? oj daemon status",
                )
            )
            return True
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            self._send(Error(f"request is not JSON: {exc}", code="invalid"))
            return False
        if isinstance(request, Hello):
            self._greet(request)
        elif self._refusal is not None:
            self._send(self._refusal)
        else:
            reply = await self._handled(request)
            if isinstance(reply, Upgrade):
                self._send(reply.reply)
                await self._carry(reply)
                return False
            self._send(reply)
        return True

    async def _carry(self, upgrade: Upgrade) -> None:
        """Give the connection away. Ends when the client is gone, too: nothing that it asked for is lost by that."""
        self._is_attached = self._interruptible = True
        try:
            await upgrade.serve(self)
        finally:
            self._is_attached = self._interruptible = False

    async def receive(self) -> bytes | None:
        """The next frame of a terminal."""
        while not self._frames:
            if self._closing or self._reader.problem is not None:
                return None
            self._resume()
            self._news = self._loop.create_future()
            try:
                await self._news
            finally:
                self._news = None
        return self._frames.popleft()

    async def send(self, payload: bytes) -> None:
        """Send a frame of a terminal, and wait until the client keeps up."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(frame(payload))
        if self._room is not None:
            await asyncio.shield(self._room)

    async def _handled(self, request: AnyRequest) -> AnyReply | Upgrade:
        self._interruptible = is_query(request)
        try:
            return await self._listener.handle(request)
        except OjError as exc:
            code = exc.code if exc.code in WIRE_CODES else "invalid"
            return Error(exc.message, code=code, hint=exc.hint)
        except Exception:
            name = type(request).__name__
            logger.exception("%s: the handler crashed", name)
            return Error(f"{name}: internal error", code="internal", hint="oj daemon logs")
        finally:
            self._interruptible = False

    def _greet(self, hello: Hello) -> None:
        self._send(HelloReply(protocol=PROTOCOL, version=identity()))
        if hello.protocol != PROTOCOL:
            self._refusal = Error(
                f"this daemon ({identity()}) speaks protocol {PROTOCOL}, the client ({hello.version}) {hello.protocol}",
                code="invalid",
                hint="oj daemon restart",
            )

    # Helpers

    def _send(self, reply: AnyReply) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        payload = _encoder().encode(reply)
        if len(payload) > self._limits.reply_bytes:
            large = Error(
                f"the reply has {len(payload)} bytes, the limit is {self._limits.reply_bytes}",
                hint="ask for less",
            )
            payload = _encoder().encode(large)
        self._transport.write(frame(payload))

    def _abandon(self) -> None:
        self._closing = True
        self._frames.clear()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if self._interruptible and self._task is not None:
            self._task.cancel()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._paused = True

    def _resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._paused = False

    def _watch(self) -> None:
        """Hang up on a client that has been silent for too long; else look again when it could be."""
        now = self._loop.time()
        if not self._deadline:
            self._watchdog = self._loop.call_later(self._limits.idle_seconds, self._watch)
        elif now < self._deadline:
            self._watchdog = self._loop.call_at(self._deadline, self._watch)
        else:
            if not self._reader.is_between_frames:
                self._send(Error("the rest of the request did not arrive in time", code="invalid"))
            self.end()


@cache
def _decoder() -> msgspec.json.Decoder[AnyRequest]:
    """Built with the first request: a large union takes milliseconds."""
    return msgspec.json.Decoder(AnyRequest)


@cache
def _encoder() -> msgspec.json.Encoder:
    return msgspec.json.Encoder()


def _explain(exc: msgspec.ValidationError) -> str:
    text = str(exc)
    if text.startswith("Invalid value") and text.endswith("`$.type`"):
        return f"unknown request: {text.removeprefix('Invalid value ').partition(' - at')[0]}"
    return f"malformed request: {text}"


def _check_peer(connection: socket.socket | None) -> Error | None:
    """Refuse other users; where the kernel does not tell, the modes of folder and socket have to do."""
    option = getattr(socket, "SO_PEERCRED", None)
    if connection is None or option is None:
        return None
    _pid, uid, _gid = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    )
    if uid == os.geteuid() or uid in ALWAYS_WELCOME:
        return None
    return Error(
        f"this daemon belongs to user {os.geteuid()}, not to user {uid}", code="unauthorized"
    )


def _remove_socket(path: Path, ours: tuple[int, int] | None) -> None:
    # A daemon that was pushed aside must not take the socket of its successor with it.
    if ours is not None and _inode(path) == ours:
        with contextlib.suppress(OSError):
            path.unlink()


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
