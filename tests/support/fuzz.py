"""People of ill will at a daemon's port: garbage, halves, lies about sizes, silence in numbers.

Rule: everything goes to one address of loopback, is bounded in count and time, and is made from a seed, so that a run can be
repeated. Nobody here knows the token.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator

from oj_daemon.wire.frames import pack
from oj_daemon.wire.names import PROTOCOL

SHORT = 0.2
"""Seconds that one of them waits for an answer."""
HELLO = {"type": "Hello", "protocol": PROTOCOL, "version": "1", "token": "guess"}


class Fuzz:
    """One of them, who tries one way after the other."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.chance = random.Random(seed)
        self.count = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._ways: list[Callable[[], None]] = [
            self.random_bytes,
            self.tls_garbage,
            self.half_a_handshake,
            self.huge_length,
            self.truncated_frame,
            self.bad_json,
            self.wrong_token,
            self.request_without_hello,
            self.flood,
        ]

    def run(self, seconds: float) -> None:
        """Try until the time is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.chance.choice(self._ways)()
            self.count += 1

    def random_bytes(self) -> None:
        """Instead of a TLS handshake."""
        self._say(self._plain, self._noise(4096))

    def tls_garbage(self) -> None:
        """What looks like a record of TLS and is none."""
        self._say(self._plain, b"\x16\x03" + self._noise(600))

    def half_a_handshake(self) -> None:
        """Begin, and go away."""
        with contextlib.suppress(OSError), self._plain() as link:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            begun = self._context.wrap_bio(incoming, outgoing)
            with contextlib.suppress(ssl.SSLWantReadError):
                begun.do_handshake()
            first = outgoing.read()
            link.sendall(first[: self.chance.randrange(1, len(first))])

    def huge_length(self) -> None:
        """A frame that is said to be larger than any."""
        self._say(self._secure, self.chance.randrange(1 << 24, 1 << 32).to_bytes(4, "big") + b"{")

    def truncated_frame(self) -> None:
        """A Hello that ends in the middle."""
        whole = pack(HELLO)
        self._say(self._secure, whole[: self.chance.randrange(1, len(whole))])

    def bad_json(self) -> None:
        """A frame full of something else."""
        noise = self._noise(300)
        self._say(self._secure, len(noise).to_bytes(4, "big") + noise)

    def wrong_token(self) -> None:
        """Guess."""
        self._say(self._secure, pack({**HELLO, "token": str(self.chance.random())}))

    def request_without_hello(self) -> None:
        """As if it were the unix socket."""
        self._say(self._secure, pack({"type": "DaemonStop", "kill": True}))

    def flood(self) -> None:
        """More than a stranger may send."""
        self._say(self._secure, (1 << 23).to_bytes(4, "big") + b"x" * 300_000)

    def _noise(self, most: int) -> bytes:
        return self.chance.randbytes(self.chance.randrange(1, most))

    def _plain(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        made.settimeout(SHORT)
        return made

    def _secure(self) -> socket.socket:
        plain = self._plain()
        plain.settimeout(5)
        try:
            secured = self._context.wrap_socket(plain)
        except BaseException:
            plain.close()
            raise
        secured.settimeout(SHORT)
        return secured

    @staticmethod
    def _say(connect: Callable[[], socket.socket], data: bytes) -> None:
        with contextlib.suppress(OSError), connect() as link:
            link.sendall(data)
            link.recv(1 << 16)


@contextlib.contextmanager
def idlers(port: int, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that say nothing."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            with contextlib.suppress(OSError):
                link = socket.create_connection(("127.0.0.1", port), timeout=5)
                found.append(stack.enter_context(link))
        yield found


@contextlib.contextmanager
def slow_loris(port: int, count: int) -> Iterator[Callable[[], None]]:
    """So many who send their Hello byte by byte; each call of what comes out sends one more of each."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    whole = pack({**HELLO, "version": "x" * 5000})
    at = 0
    with contextlib.ExitStack() as stack:
        links = []
        for _ in range(count):
            with contextlib.suppress(OSError):
                plain = socket.create_connection(("127.0.0.1", port), timeout=5)
                links.append(stack.enter_context(context.wrap_socket(plain)))

        def drip() -> None:
            nonlocal at
            for link in links:
                with contextlib.suppress(OSError):
                    link.sendall(whole[at : at + 1])
            at = (at + 1) % len(whole)

        yield drip
