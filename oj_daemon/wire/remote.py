"""A connection to a daemon on another machine: `tls://host:port`, or `tcp://host:port` in plain text.

Rule: standard library only, and imported only when OJ_DAEMON_URL is set. Whom we talk to is known before the first byte of ours
leaves: by the pinned fingerprint where one is given, else by the CA. What comes out looks like a plain socket: an operation
that would block raises BlockingIOError, so nobody else has to know about TLS.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
from typing import Final

from oj_daemon.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

    from oj_daemon.settings import Settings

FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
HINT: Final = "oj doctor; on the daemon's machine: oj daemon status"
RECORD: Final = 1 << 14
"""Most bytes that TLS hands out at once."""


def connect(settings: Settings, url: str) -> socket.socket | TlsSocket:
    """Connect within the time limit of the settings. Raises WireError: unreachable, timeout, untrusted, invalid."""
    scheme, host, port = parse(url)
    context = _context(settings) if scheme == "tls" else None
    plain = _dial(url, host, port, settings.timeout_ipc_ms / 1000)
    if context is None:
        return plain
    import ssl  # noqa: PLC0415 - 20 ms; only for tls://

    try:
        secured = context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        plain.close()
        raise WireError(
            f"{url}: its certificate is not trusted: {error.verify_message}",
            code="untrusted",
            hint="`oj daemon status` on its machine shows the fingerprint: set OJ_TLS_FINGERPRINT to it, or OJ_TLS_CA to its CA",
        ) from error
    except TimeoutError as error:
        plain.close()
        raise WireError(
            f"{url}: no TLS handshake in time; is that port one of a daemon, with TLS?",
            code="timeout",
            hint=HINT,
        ) from error
    except OSError as error:
        plain.close()
        reason = getattr(error, "reason", None) or error.strerror or "the other side hung up"
        raise WireError(
            f"{url}: no TLS handshake: {reason}; is that port one of a daemon, with TLS?",
            code="unreachable",
            hint=HINT,
        ) from error
    except BaseException:
        plain.close()
        raise
    _check_pin(settings, url, secured)
    return TlsSocket(secured)


def parse(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises WireError."""
    scheme, separator, address = url.partition("://")
    host, colon, port = address.rstrip("/").rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    if scheme in ("tls", "tcp") and separator and host and colon and is_port:
        return scheme, host, int(port)
    raise WireError(
        f"OJ_DAEMON_URL={url}: expected tls://host:port or tcp://host:port",
        code="invalid",
        hint="unset OJ_DAEMON_URL to use the daemon of this machine",
    )


def _dial(url: str, host: str, port: int, seconds: float) -> socket.socket:
    try:
        made = socket.create_connection((host, port), timeout=seconds)
    except TimeoutError as error:
        raise WireError(
            f"connect to {url}: no answer within {seconds:g} s", code="timeout", hint=HINT
        ) from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WireError(f"connect to {url}: {reason}", code="unreachable", hint=HINT) from error
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A path that has gone dead without a word is noticed also by whoever only waits for news.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        option = getattr(socket, name, None)
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _context(settings: Settings) -> ssl.SSLContext:
    import ssl  # noqa: PLC0415 - 20 ms; only for tls://

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.tls_fingerprint:
        if FINGERPRINT.fullmatch(settings.tls_fingerprint) is None:
            raise WireError(
                "OJ_TLS_FINGERPRINT: not a SHA-256 fingerprint (64 hex digits, with or without colons)",
                code="invalid",
                hint="`oj daemon status` on the daemon's machine shows it",
            )
        # The pin says more than any CA: exactly this certificate.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.tls_ca:
        _load("OJ_TLS_CA", settings.tls_ca, context.load_verify_locations)
    else:
        context.load_default_certs()
    if settings.tls_client_cert:
        _load("OJ_TLS_CLIENT_CERT", settings.tls_client_cert, context.load_cert_chain)
    return context


def _load(name: str, path: str, load: object) -> None:
    assert callable(load)  # noqa: S101 - a method of the context
    try:
        load(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WireError(
            f"{name}={path}: {reason}", code="invalid", hint=f"{name} names a PEM file"
        ) from error


def _check_pin(settings: Settings, url: str, secured: ssl.SSLSocket) -> None:
    if not settings.tls_fingerprint:
        return
    shown = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
    if not hmac.compare_digest(shown, settings.tls_fingerprint):
        secured.close()
        raise WireError(
            f"{url}: its certificate has the fingerprint {shown}, OJ_TLS_FINGERPRINT is {settings.tls_fingerprint}:"
            " another daemon, or somebody in between",
            code="untrusted",
            hint="`oj daemon status` on its machine shows the right one",
        )


class TlsSocket:
    """A TLS connection that behaves as a plain socket does, as far as `oj` uses one."""

    def __init__(self, secured: ssl.SSLSocket) -> None:
        self._secured = secured

    def settimeout(self, seconds: float | None) -> None:
        """As of a socket."""
        self._secured.settimeout(seconds)

    def setblocking(self, flag: bool) -> None:  # the name of a socket's
        """As of a socket."""
        self._secured.setblocking(flag)

    def fileno(self) -> int:
        """As of a socket; readable does not promise that `recv` has something."""
        return self._secured.fileno()

    def recv(self, size: int) -> bytes:
        """As of a socket; takes a whole record, so nothing is left behind that a `select` would not see."""
        import ssl  # noqa: PLC0415 - loaded already

        try:
            return self._secured.recv(max(size, RECORD))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    def send(self, data: bytes | bytearray) -> int:
        """As of a socket."""
        import ssl  # noqa: PLC0415 - loaded already

        try:
            return self._secured.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error

    def sendall(self, data: bytes) -> None:
        """As of a socket."""
        self._secured.sendall(data)

    def close(self) -> None:
        """As of a socket."""
        self._secured.close()


def is_gone(connection: socket.socket | TlsSocket) -> bool:
    """Whether the other side has hung up on an idle connection."""
    connection.setblocking(False)
    try:
        # Nothing is to come on an idle connection, so whatever comes makes it useless.
        connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
