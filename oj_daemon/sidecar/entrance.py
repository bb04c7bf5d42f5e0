"""Where the API can be reached: the sockets, bound before the agent starts so that it can be told the address.

Rule: a unix socket is for its owner alone from its first moment; one that answers is never taken away from its owner.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from pathlib import Path

from oj_daemon.errors import AdapterError
from oj_daemon.sidecar.options import Options


def bind(chosen: Options, opened: contextlib.ExitStack) -> tuple[list[socket.socket], str]:
    """The sockets, bound before the agent starts so that it can be told the address; and that address."""
    made: list[socket.socket] = []
    url = ""
    if chosen.socket:
        made.append(opened.enter_context(_unix_socket(chosen.socket)))
        opened.callback(_remove, chosen.socket)
    if chosen.port is not None:
        try:
            family = socket.AF_INET6 if ":" in chosen.host else socket.AF_INET
            tcp = socket.create_server((chosen.host, chosen.port), family=family, backlog=128)
        except OSError as error:
            raise AdapterError(
                f"listen on {chosen.host}:{chosen.port}: {error.strerror or error}", code="bind"
            ) from error
        made.append(opened.enter_context(tcp))
        host = "[::1]" if family is socket.AF_INET6 else "127.0.0.1"
        scheme = "https" if chosen.tls_cert else "http"
        url = f"{scheme}://{host}:{tcp.getsockname()[1]}"
    return made, url


def _unix_socket(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)  # nobody else may connect, not even for a moment
    try:
        if Path(path).is_socket():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)
                raise AdapterError(
                    f"listen on {path}: another sidecar answers there; end it or choose another --socket",
                    code="bind",
                )
            Path(path).unlink(missing_ok=True)
        made.bind(path)
        made.listen(128)
    except AdapterError:
        made.close()
        raise
    except OSError as error:
        made.close()
        raise AdapterError(f"listen on {path}: {error.strerror or error}", code="bind") from error
    finally:
        os.umask(mask)
    return made


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def tls_context(chosen: Options) -> ssl.SSLContext | None:
    """For the TCP port, None where it speaks plainly."""
    if not chosen.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(chosen.tls_cert, chosen.tls_key or None)
    except (OSError, ssl.SSLError) as error:
        raise AdapterError(f"read --tls-cert {chosen.tls_cert}: {error}", code="tls") from error
    if chosen.client_ca:
        try:
            context.load_verify_locations(chosen.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise AdapterError(
                f"read --client-ca {chosen.client_ca}: {error}", code="tls"
            ) from error
        # Asked for, and not insisted on: probes have none. Who needs one is decided with each request.
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
