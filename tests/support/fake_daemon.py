"""A scripted daemon for tests of front ends: answers what it was told to, and writes down what it was asked.

Rule: it knows frames and nothing else of a daemon. Answers of a request type are used in turn, the last one again and
again; an answer may be a reply, an exception's worth of `Error`, a function of the request, or `HANG_UP`.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from oj_daemon.wire.frames import FrameReader, pack
from oj_daemon.wire.names import PROTOCOL

Message = dict[str, Any]
Answer = Message | Callable[[Message], Message]

HANG_UP: Final[Message] = {"type": "HANG_UP"}
"""Answer that closes the connection instead of replying."""
SILENCE: Final[Message] = {"type": "SILENCE"}
"""Answer that never comes; the connection stays open until the daemon is closed."""


class FakeDaemon:
    """Listens on a unix socket from a thread of this process; with `tls` on a port of loopback instead."""

    def __init__(self, path: Path, tls: ssl.SSLContext | None = None) -> None:
        self.path = path
        self.port = 0
        self._tls = tls
        self.requests: list[Message] = []
        """Everything asked, in order, without Hello."""
        self.hellos: list[Message] = []
        self.asked = threading.Condition()
        """Notified after each request was written down."""
        self._answers: dict[str, list[Answer]] = {}
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None

    def start(self) -> FakeDaemon:
        """Listen; returns itself."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        if self._tls is None:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(str(self.path))
            listener.listen()
        else:
            listener = socket.create_server(("127.0.0.1", self.port))
            self.port = listener.getsockname()[1]
        self._listener = listener
        thread = threading.Thread(target=self._accept, args=(listener,))
        thread.start()
        self._threads.append(thread)
        return self

    def close(self) -> None:
        """Stop listening, hang up on everybody and end all threads."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            for connection in self._open:
                _shut(connection)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self.path.unlink(missing_ok=True)

    def answer(self, request: str, *answers: Answer) -> None:
        """Say what to reply to requests of this type from now on."""
        with self._lock:
            self._answers[request] = list(answers)

    def refuse(
        self, request: str, message: str, *, code: str = "not_found", hint: str = ""
    ) -> None:
        """Reply to requests of this type with an error."""
        self.answer(request, error(message, code=code, hint=hint))

    def wait_for(self, request: str, count: int = 1) -> None:
        """Block until so many requests of this type have come in."""
        with self.asked:
            came = self.asked.wait_for(lambda: len(self.of(request)) >= count, timeout=30)
        assert came, f"no {request} came; only {self.requests}"

    def of(self, request: str) -> list[Message]:
        """The requests of one type, without their type."""
        return [_untyped(message) for message in self.requests if message["type"] == request]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        reader = FrameReader()
        if self._tls is not None:
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                return
            with self._lock:
                self._open.append(connection)
        with connection:
            while True:
                try:
                    data = connection.recv(65536)
                    if not data:
                        return
                    for frame in reader.feed(data):
                        if not self._reply(connection, json.loads(frame)):
                            return
                except OSError:
                    return

    def _reply(self, connection: socket.socket, message: Message) -> bool:
        if message["type"] == "Hello":
            self.hellos.append(message)
            connection.sendall(
                pack({"type": "HelloReply", "protocol": PROTOCOL, "version": "fake"})
            )
            return True
        with self._lock:
            answers = self._answers.get(message["type"], [])
            chosen: Answer = error(
                f"nobody told the fake daemon what to say to {message}", code="internal"
            )
            if answers:
                chosen = answers.pop(0) if len(answers) > 1 else answers[0]
        with self.asked:
            self.requests.append(message)
            self.asked.notify_all()
        reply = chosen(message) if callable(chosen) else chosen
        if reply is HANG_UP:
            _shut(connection)
            return False
        if reply is not SILENCE:
            connection.sendall(pack(reply))
        return True


def error(message: str, *, code: str = "not_found", hint: str = "") -> Message:
    """An `Error` reply."""
    return {"type": "Error", "message": message, "code": code, "hint": hint}


def _untyped(message: Message) -> Message:
    return {key: value for key, value in message.items() if key != "type"}


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was faster
