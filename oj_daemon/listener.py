"""Accepts connections, on the unix socket and from afar, and answers requests, one after the other, in the order they came.

Rule: knows frames, limits and who may connect; what a request means is the handler's business. Every request gets a reply:
what cannot be read an Error, a handler that crashes an Error and a traceback in the log. A client that goes away ends the
question it asked, but never a change that was already accepted. One task per connection, in the TaskGroup of the listener.

Whoever comes from afar is a stranger until a first Hello has shown a token that is known; until then nothing but that Hello is
read, little of it is kept, it has to come soon, and only so many strangers are borne at once: a new one takes the place of the
one that has kept us waiting the longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import stat
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from oj_daemon.access import OWNER, Principal
from oj_daemon.attach import Upgrade, goodbye
from oj_daemon.build import identity
from oj_daemon.errors import OjError, WireError
from oj_daemon.settings import SOCKET_PATH_LIMIT
from oj_daemon.wire.frames import MAX_REPLY, MAX_REQUEST, FrameReader, frame
from oj_daemon.wire.names import PROTOCOL
from oj_daemon.wire.replies import AnyReply, Error, HelloReply
from oj_daemon.wire.requests import AnyRequest, Hello, is_query

logger = logging.getLogger(__name__)

Handle = Callable[[AnyRequest, Principal], Awaitable[AnyReply | Upgrade]]
"""Answers one request of somebody; raises OjError to refuse. An Upgrade takes the connection over."""
Authenticate = Callable[[str, bool], Principal | None]
"""Whose token that is, given whether it was shown on the unix socket (then it may be empty); None: nobody's."""

WIRE_CODES: Final = frozenset(
    {"not_found", "ambiguous", "invalid", "conflict", "unauthorized", "unavailable", "internal"}
)
QUEUED_FRAMES: Final = 64
"""Requests that may wait on one connection before we stop reading from it; fewer when together they are as large as one may be."""
BACKLOG: Final = 128
STOPPING: Final = "the daemon is stopping"
"""What a person in an agent's terminal is told at the end."""
ALWAYS_WELCOME: Final = frozenset({0})
"""Users besides our own: root may do as it likes anyway."""
REFUSAL_SECONDS: Final = 1.0
"""Refused strangers leave one line in the log in so many seconds."""
STRANGER_BYTES: Final = 64 << 10
"""What is kept of somebody whose Hello has not come yet; far more than a Hello has."""
KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds, seconds and tries until a peer that has vanished without a word is given up on."""


class Limits(NamedTuple):
    """What one client, and all of them together, may take."""

    connections: int = 256
    request_bytes: int = MAX_REQUEST
    reply_bytes: int = MAX_REPLY
    first_seconds: float = 5.0
    """Until the first request has arrived whole."""
    idle_seconds: float = 60.0
    """Between requests, and between two pieces of one."""
    strangers: int = 64
    """Connections from afar that have not shown a token yet, those in the middle of a TLS handshake included."""
    requests: int = 100_000
    """On one connection, which is then closed between two of them; `oj` connects again by itself."""

    @property
    def from_afar(self) -> int:
        """From how many connections on none is taken from afar: whoever sits at the machine can always look, and stop it."""
        return self.connections - self.connections // 4


class Remote(NamedTuple):
    """The door for those from afar."""

    host: str
    port: int
    context: ssl.SSLContext | None
    """None: plain text, as was asked for by name."""


def only_owner(_token: str, is_local: bool) -> Principal | None:
    """Knows no token: whoever may use the unix socket is the owner."""
    return OWNER if is_local else None


@contextlib.asynccontextmanager
async def listen(
    path: Path,
    handle: Handle,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    *,
    authenticate: Authenticate = only_owner,
    remote: Remote | None = None,
) -> AsyncIterator[Listener]:
    """Accept connections while the block runs; at its end hang up on everybody and remove the socket.

    The caller holds the lock of the state folder: a socket found at `path` belongs to nobody any more. Raises WireError
    when one of the two doors cannot be opened.
    """
    bound = bind(path)
    ours = _inode(path)
    failure: BaseException | None = None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.TaskGroup() as group:
            listener = Listener(handle, limits, group, authenticate)
            server = await loop.create_unix_server(listener.accept, sock=bound, backlog=BACKLOG)
            doors: list[socket.socket] = []
            try:
                if remote is not None:
                    doors = await _open(remote)
                    listener.welcome(doors, remote)
                yield listener
            except BaseException as exc:  # noqa: BLE001 - raised again below, and not wrapped into a group of one
                failure = exc
            finally:
                server.close()
                listener.hang_up()
                for door in doors:
                    door.close()
    finally:
        bound.close()
        _remove_socket(path, ours)
    if failure is not None:
        raise failure


async def _open(remote: Remote) -> list[socket.socket]:
    """Listening sockets for every address of the host."""
    opened: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            remote.host, remote.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, address in dict.fromkeys(found):
            door = socket.create_server(address[:2], family=family, backlog=BACKLOG)
            door.setblocking(False)
            opened.append(door)
    except OSError as exc:
        for door in opened:
            door.close()
        raise WireError(
            f"listen on {remote.host}:{remote.port}: {exc.strerror or exc}",
            code="unavailable",
            hint="set OJ_TCP_PORT and OJ_TCP_BIND to a free port of an address of this machine, or OJ_TCP_PORT=off",
        ) from exc
    return opened


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
    """All connections of one daemon."""

    def __init__(
        self,
        handle: Handle,
        limits: Limits,
        group: asyncio.TaskGroup,
        authenticate: Authenticate = only_owner,
    ) -> None:
        self.handle = handle
        self.limits = limits
        self.group = group
        self.authenticate = authenticate
        self.connections: set[Connection] = set()
        self.ports: list[int] = []
        """Those that are open for whoever comes from afar."""
        self._refused, self._refused_at = 0, -REFUSAL_SECONDS
        """How many were refused since the last line about that in the log, and when it was written."""
        self._porters: list[asyncio.Task[None]] = []
        self._strangers: dict[Stranger, None] = {}
        """In the order in which they came."""

    @property
    def stranger_count(self) -> int:
        """How many have not shown a token yet."""
        return len(self._strangers)

    def accept(self) -> Connection:
        """The protocol object of a connection that has just been made."""
        return Connection(self)

    def welcome(self, doors: list[socket.socket], remote: Remote) -> None:
        """Open the doors for whoever comes from afar."""
        for door in doors:
            self.ports.append(door.getsockname()[1])
            self._porters.append(self.group.create_task(_answer_door(door, remote, self)))

    def bear(self, stranger: Stranger) -> None:
        """Have one more whom nobody knows; the one who has waited the longest goes if that is one too many."""
        if len(self._strangers) >= self.limits.strangers:
            next(iter(self._strangers)).turn_away()
        self._strangers[stranger] = None

    def note_refusal(self, peer: str, why: str) -> None:
        """Log that somebody was refused; of many in a moment only how many: strangers must not fill the log."""
        now = asyncio.get_running_loop().time()
        if now - self._refused_at < REFUSAL_SECONDS:
            self._refused += 1
            return
        more = f" ({self._refused} more before)" if self._refused else ""
        logger.warning("connection from %s refused: %s%s", peer, why, more)
        self._refused_at, self._refused = now, 0

    def settle(self, stranger: Stranger) -> None:
        """One of them is known, or gone."""
        self._strangers.pop(stranger, None)

    def hang_up(self) -> None:
        """End every connection, whatever it waits for: what was accepted is in the log, and nobody answers any more."""
        for porter in self._porters:
            porter.cancel()
        for connection in tuple(self.connections):
            connection.end()
        for stranger in tuple(self._strangers):
            stranger.turn_away()


class Stranger(Protocol):
    """Somebody from afar who has not shown a token yet."""

    def turn_away(self) -> None:
        """Hang up at once."""
        ...


class Caller:
    """Somebody at the door whose first word is still to come, and then the TLS handshake, where there is one."""

    def __init__(self, listener: Listener, remote: Remote, link: socket.socket, peer: str) -> None:
        self.peer = peer
        self._listener = listener
        self._remote = remote
        self._link = link
        listener.bear(self)
        self._task = listener.group.create_task(self._come_in())

    def turn_away(self) -> None:
        """Hang up at once."""
        self._task.cancel()

    async def _come_in(self) -> None:
        loop = asyncio.get_running_loop()
        seconds = self._listener.limits.first_seconds
        context = self._remote.context
        try:
            _keep_alive(self._link)
            async with asyncio.timeout(seconds):
                # Before that nothing is made for them: what asyncio makes for TLS takes 300 KB.
                await _first_byte(loop, self._link)
            await loop.connect_accepted_socket(
                lambda: Connection(self._listener, peer=self.peer, caller=self),
                self._link,
                ssl=context,
                ssl_handshake_timeout=seconds if context is not None else None,
                ssl_shutdown_timeout=1.0 if context is not None else None,
            )
        except (OSError, EOFError, asyncio.CancelledError) as error:
            # Also the cancellation of `turn_away`; the listener as a whole is never cancelled before it has hung up.
            # A handshake that was refused is worth a line: the client hears little of it, or nothing.
            level = logging.INFO if isinstance(error, ssl.SSLError) else logging.DEBUG
            logger.log(level, "%s did not come in: %s", self.peer, error)
            error.__traceback__ = (
                None  # it holds on to all of the above until the garbage collector comes
            )
            self._link.close()
        except Exception:
            # What asyncio and OpenSSL make of garbage is not all foreseen, and costs this connection only.
            logger.warning("the TLS handshake with %s failed", self.peer, exc_info=True)
            self._link.close()
        finally:
            self._listener.settle(self)


async def _first_byte(loop: asyncio.AbstractEventLoop, link: socket.socket) -> None:
    """Wait until there is something to read; ConnectionError when that is the end."""
    come = asyncio.Event()
    loop.add_reader(link, come.set)
    try:
        await come.wait()
    finally:
        loop.remove_reader(link)
    if not link.recv(1, socket.MSG_PEEK):
        raise ConnectionAbortedError


async def _answer_door(door: socket.socket, remote: Remote, listener: Listener) -> None:
    """Take in whoever comes, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            link, address = await loop.sock_accept(door)
        except OSError as error:
            # No more files may be opened, most probably: whoever is at the door waits there.
            logger.warning("cannot accept a connection: %s", error)
            await asyncio.sleep(1)
            continue
        Caller(listener, remote, link, f"{address[0]}:{address[1]}")
        # `sock_accept` does not yield while somebody waits, and who is turned away before its task has begun never
        # gets to its `finally`.
        await asyncio.sleep(0)


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        option = getattr(socket, name, None)  # not everywhere
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


class Connection(asyncio.Protocol):
    """One client: frames in, replies out, in order."""

    def __init__(self, listener: Listener, *, peer: str = "", caller: Caller | None = None) -> None:
        self.peer = peer
        """Its address, for one from afar; empty on the unix socket."""
        self._caller = caller
        """What it was at the door."""
        self._who = None if peer else listener.authenticate("", True)
        """None: a stranger."""
        self._received = 0
        """Bytes, as long as it is one."""
        self._requests = 0
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
        refusal = None if self.peer else _check_peer(transport.get_extra_info("socket"))
        most = self._limits.from_afar if self.peer else self._limits.connections
        if refusal is None and len(listener.connections) >= most:
            refusal = Error(
                f"too many connections ({most})",
                code="unavailable",
                hint="try again later",
            )
        if refusal is not None:
            logger.warning("connection refused: %s", refusal.message)
            self._closing = True
            if not self.peer:  # a stranger is told nothing
                self._send(refusal)
            transport.close()
            return
        listener.connections.add(self)
        if self._caller is not None:
            listener.settle(self._caller)
            self._caller = None
        if self._who is None:
            listener.bear(self)
        self._deadline = self._loop.time() + self._limits.first_seconds
        self._watchdog = self._loop.call_at(self._deadline, self._watch)
        self._task = listener.group.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Collect frames."""
        if self._closing:
            return
        if self._who is None:
            self._received += len(data)
        try:
            frames = self._reader.feed(data)
        except WireError:
            frames = []  # the task reads `problem` when it gets there
        self._frames.extend(frames)
        if self._deadline and not frames and self._who is not None:
            self._deadline = max(
                self._deadline,
                self._loop.time() + min(self._limits.first_seconds, self._limits.idle_seconds),
            )
        is_too_much = self._who is None and self._received > STRANGER_BYTES
        if is_too_much and not self._frames:
            self._refuse("no Hello has come")
            return
        is_full = (
            len(self._frames) >= QUEUED_FRAMES
            or sum(map(len, self._frames)) >= self._limits.request_bytes
        )
        if is_full or self._reader.problem is not None or is_too_much:
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
        self._listener.settle(self)
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

    def turn_away(self) -> None:
        """Hang up on a stranger at once."""
        self._interruptible = True
        self._abandon()
        if self._transport is not None:
            # Python 3.11.2, Debian's, has nothing left to abort in a TLS transport that was closed.
            with contextlib.suppress(AttributeError):
                self._transport.abort()

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
                who = self._who
                keep = self._admit(payload) if who is None else await self._answer(payload, who)
                self._requests += 1
                if not keep or self._closing or self._requests >= self._limits.requests:
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

    async def _answer(self, payload: bytes, who: Principal) -> bool:
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
            return self._greet(request)
        if self._refusal is not None:
            self._send(self._refusal)
        else:
            reply = await self._handled(request, who)
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

    async def _handled(self, request: AnyRequest, who: Principal) -> AnyReply | Upgrade:
        self._interruptible = is_query(request)
        try:
            return await self._listener.handle(request, who)
        except OjError as exc:
            code = exc.code if exc.code in WIRE_CODES else "invalid"
            return Error(exc.message, code=code, hint=exc.hint)
        except Exception:
            name = type(request).__name__
            logger.exception("%s: the handler crashed", name)
            return Error(f"{name}: internal error", code="internal", hint="oj daemon logs")
        finally:
            self._interruptible = False

    def _admit(self, payload: bytes) -> bool:
        """Let a stranger in whose first word is a Hello with a token that is known."""
        try:
            hello = _decoder().decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            hello = None
        if not isinstance(hello, Hello):
            return self._refuse("the first request has to be a Hello with a token")
        known = self._listener.authenticate(hello.token, False) if hello.token else None
        if known is None:
            return self._refuse(
                "the token is not known here" if hello.token else "a token is needed"
            )
        self._who = known
        self._listener.settle(self)
        return self._greet(hello)

    def _refuse(self, why: str) -> bool:
        """Hang up on a stranger; what it gets to read says nothing about us."""
        self._listener.note_refusal(self.peer, why)
        self._send(
            Error(
                why,
                code="unauthorized",
                hint="set OJ_AUTH_TOKEN or OJ_AUTH_TOKEN_FILE to the token of that daemon",
            )
        )
        self._abandon()
        if self._transport is not None:
            self._transport.close()
        return False

    def _greet(self, hello: Hello) -> bool:
        if not self.peer and hello.token:
            known = self._listener.authenticate(hello.token, True)
            if known is None:
                self._send(
                    Error(
                        "the token in OJ_AUTH_TOKEN is over, or is not of this daemon",
                        code="unauthorized",
                        hint="unset OJ_AUTH_TOKEN",
                    )
                )
                return False
            self._who = known
        self._send(HelloReply(protocol=PROTOCOL, version=identity()))
        if hello.protocol != PROTOCOL:
            self._refusal = Error(
                f"this daemon ({identity()}) speaks protocol {PROTOCOL}, the client ({hello.version}) {hello.protocol}",
                code="invalid",
                hint="oj daemon restart",
            )
        return True

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
