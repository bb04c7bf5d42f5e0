"""The blocking client: one connection, one request at a time, plain dictionaries.

Rule: standard library only, and of that as little as possible: each call of `oj` imports this. A request is sent once; nothing
here sends one again, because only the caller knows whether doing it twice is harmless. An interrupt (SIGINT) leaves at once.
"""

from __future__ import annotations

import json
import os
import socket
from types import TracebackType
from typing import Any, Final

from oj_daemon import __version__
from oj_daemon.errors import OjError, WireError
from oj_daemon.settings import SOCKET_PATH_LIMIT, Settings
from oj_daemon.wire.frames import MAX_REPLY, FrameReader, pack
from oj_daemon.wire.names import PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oj_daemon.wire.remote import TlsSocket

    Link = socket.socket | TlsSocket

Reply = dict[str, Any]
"""A decoded reply; its shape is the struct of that `type` in replies.py."""

CHUNK: Final = 256 << 10
NOT_RUNNING: Final = "Daemon not running"
WATCH_MS: Final = 20_000
"""What Watch waits when it does not say."""


class RemoteError(OjError):
    """The daemon answered `Error`; message, code and hint are its own."""


class Client:
    """Talks to the daemon of `settings`; connects with the first call and may be used for many.

    Raises WireError with the codes unavailable (nobody listens), timeout, closed (the daemon went away in the middle),
    incompatible (another protocol), invalid, too_large; and RemoteError when the daemon refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._socket: Link | None = None
        self._reader = FrameReader(MAX_REPLY)
        self._frames: list[bytes] = []
        self._greeted = False
        self.daemon_version = ""
        """Version of the daemon, known after the first call."""
        self.daemon_protocol = 0
        """The same for its protocol."""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Connect if there is no connection; nothing is sent yet."""
        if self._socket is None:
            self._socket = _connect(self._settings)
            self._reader = FrameReader(MAX_REPLY)
            self._frames = []
            self._greeted = False

    def close(self) -> None:
        """Hang up; the next call connects again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def give_away(self) -> tuple[Link, FrameReader, list[bytes]]:
        """Part with the connection after a reply that made something else of it; also with what was read from it since."""
        assert self._socket is not None  # noqa: S101 - the reply came over it
        given = (self._socket, self._reader, self._frames)
        self._socket, self._frames = None, []
        return given

    def is_gone_within(self, milliseconds: int) -> bool:
        """Wait until the daemon hangs up, without asking it anything more."""
        assert self._socket is not None  # noqa: S101 - it has just answered
        self._socket.settimeout(milliseconds / 1000)
        try:
            while self._socket.recv(CHUNK):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        self.close()
        return True

    @property
    def peer_pid(self) -> int | None:
        """Process that listens at the other end, told by the kernel; None where it does not tell."""
        option = getattr(socket, "SO_PEERCRED", None)
        if not isinstance(self._socket, socket.socket) or option is None:
            return None
        import struct  # noqa: PLC0415 - only `oj daemon` asks

        if self._socket.family != socket.AF_UNIX:
            return None
        pid, _uid, _gid = struct.unpack(
            "3i", self._socket.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
        )
        return int(pid)

    def call(self, type: str, /, *, timeout_ms: int | None = None, **fields: object) -> Reply:  # noqa: A002 - the field's name
        """Send one request and wait for its reply.

        `timeout_ms` bounds each wait for the other side; default: the limit of the settings, and on top of it what the
        request itself asks the daemon to wait (`wait_ms`).
        """
        request = pack({"type": type, **fields})
        if timeout_ms is None:
            waits = fields.get("wait_ms", WATCH_MS if type == "Watch" else 0)
            timeout_ms = self._settings.timeout_ipc_ms + (waits if isinstance(waits, int) else 0)
        self._drop_if_gone()
        self.connect()
        return _checked(self._talk(type, request, timeout_ms / 1000))

    def _talk(self, name: str, request: bytes, seconds: float) -> Reply:
        """Send the request, after the greeting if that is still to come, and read the last reply."""
        connection = self._socket
        assert connection is not None  # noqa: S101 - connect() has just been called
        connection.settimeout(seconds)
        greeting = b"" if self._greeted else pack(self._hello())
        reply: Reply = {}
        try:
            if greeting and self._settings.daemon_url is not None:
                # A stranger's request would not be read, and its rest would cost us the reply that says why.
                connection.sendall(greeting)
                self._read_hello(self._receive(connection))
                greeting = b""
            connection.sendall(greeting + request)
            if greeting:
                self._read_hello(self._receive(connection))
            if request:
                reply = self._receive(connection)
        except BaseException as exc:
            # A reply may still be on its way (an interrupt, a timeout): it must not answer the next request.
            self.close()
            if isinstance(exc, TimeoutError):
                raise WireError(
                    f"{name}: the daemon did not answer within {seconds:g} s",
                    code="timeout",
                    hint=self._where_to_look(),
                ) from exc
            if isinstance(exc, OSError):
                raise WireError(
                    f"{name}: connection closed by the daemon",
                    code="closed",
                    hint=self._where_to_look(),
                ) from exc
            raise
        return reply

    def greet(self) -> None:
        """Connect and exchange greetings, so that what could be wrong with the daemon shows before anything is asked."""
        self._drop_if_gone()
        self.connect()
        if not self._greeted:
            self._talk("Hello", b"", self._settings.timeout_ipc_ms / 1000)

    def _hello(self) -> dict[str, object]:
        hello: dict[str, object] = {"type": "Hello", "protocol": PROTOCOL, "version": __version__}
        if self._settings.token:
            hello["token"] = self._settings.token.reveal()
        return hello

    def _read_hello(self, reply: Reply) -> None:
        _checked(reply)
        self.daemon_version = str(reply.get("version", ""))
        self.daemon_protocol = int(reply.get("protocol", 0))
        if self.daemon_protocol != PROTOCOL:
            raise WireError(f"the daemon ({reply.get('version', '?')}) speaks protocol {reply.get('protocol', '?')}, "
                            f"this oj ({__version__}) speaks {PROTOCOL}",
                            code="incompatible", hint=self._upgrade_hint())  # fmt: skip
        self._greeted = True

    def _where_to_look(self) -> str:
        url = self._settings.daemon_url
        if url is None:
            return "oj daemon logs"
        if url.startswith("tcp://") and not self._greeted:
            return "does it want TLS? OJ_DAEMON_URL=tls://..."
        if not self._greeted and not self._settings.tls_client_cert:
            # With TLS 1.3 a client hears of that only after the handshake, or not at all.
            return "does it want a certificate of clients? OJ_TLS_CLIENT_CERT=FILE"
        return "see the log of the daemon on its own machine"

    def _upgrade_hint(self) -> str:
        if self._settings.daemon_url is None:
            return "oj daemon restart"
        return f"use an oj of its version: {self.daemon_version or '?'}"

    def _receive(self, connection: Link) -> Reply:
        while not self._frames:
            data = connection.recv(CHUNK)
            if not data:
                raise ConnectionResetError
            self._frames = self._reader.feed(data)
        payload = self._frames.pop(0)
        try:
            reply = json.loads(payload)
        except ValueError as exc:
            raise WireError(
                f"the daemon sent something that is not JSON: {exc}", code="invalid"
            ) from exc
        if not isinstance(reply, dict) or not isinstance(reply.get("type"), str):
            raise WireError("the daemon sent something that is no reply", code="invalid")
        return reply

    def _drop_if_gone(self) -> None:
        """Hang up where the daemon has closed an idle connection: nothing was sent, so connecting again is safe."""
        if self._socket is None:
            return
        if self._settings.daemon_url is not None:
            from oj_daemon.wire import remote  # noqa: PLC0415 - loaded already

            gone = remote.is_gone(self._socket)
        else:
            gone = _is_gone(self._socket)
        if gone:
            self.close()


def _is_gone(connection: Link) -> bool:
    assert isinstance(connection, socket.socket)  # noqa: S101 - of this machine
    # Not by MSG_DONTWAIT: a Python socket that has a timeout waits for all of it first.
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _checked(reply: Reply) -> Reply:
    if reply["type"] == "Error":
        raise RemoteError(str(reply.get("message", "the daemon gave no reason")),
                          code=str(reply.get("code", "internal")), hint=str(reply.get("hint", "")))  # fmt: skip
    return reply


def _connect(settings: Settings) -> Link:
    if settings.daemon_url is not None:
        from oj_daemon.wire import remote  # noqa: PLC0415 - only for a daemon on another machine

        return remote.connect(settings, settings.daemon_url)
    path = settings.socket_address
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise socket_path_too_long(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(settings.timeout_ipc_ms / 1000)
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        connection.close()
        raise WireError(NOT_RUNNING, code="unavailable", hint="oj daemon start") from exc
    except (TimeoutError, BlockingIOError) as exc:
        connection.close()
        raise WireError(
            f"connect to {path}: the daemon does not answer", code="timeout", hint="oj daemon logs"
        ) from exc
    except OSError as exc:
        connection.close()
        raise WireError(
            f"connect to {path}: {exc.strerror or exc}", code="unreachable", hint="oj doctor"
        ) from exc
    except BaseException:
        connection.close()
        raise
    return connection


def socket_path_too_long(path: str) -> WireError:
    """The error for a state folder whose path leaves no room for a socket."""
    return WireError(f"socket path too long: {path} has {len(os.fsencode(path))} bytes, the limit is {SOCKET_PATH_LIMIT}",
                     code="path_too_long", hint="set OJ_STATE_DIR to a folder with a shorter path")  # fmt: skip
