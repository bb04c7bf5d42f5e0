"""`oj-sidecar send [JSON]`: an agent tells its own sidecar that it may stop, or why it goes on.

Rule: speaks to the sidecar that the environment names and to no other. Exit code 2 when it was called wrongly, 1 when the
sidecar refused or cannot be reached.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from oj_daemon.drivers.base import SOCKET_ENV, TOKEN_ENV, URL_ENV

PATH: Final = "/api/v1/stop/resolve"
TIMEOUT: Final = 10.0


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def send(words: Sequence[str], environ: Mapping[str, str]) -> int:  # noqa: PLR0911 - a list of checks
    """Send one JSON object and return the exit code."""
    path, url = environ.get(SOCKET_ENV, ""), environ.get(URL_ENV, "")
    if not path and not url:
        return _say(2, f"neither {SOCKET_ENV} nor {URL_ENV} is set: this is no agent of oj")
    if len(words) > 1:
        return _say(2, f"unexpected argument '{words[1]}'")
    text = (
        words[0] if words else "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    )
    try:
        body = json.loads(text.strip() or "{}")
    except ValueError as error:
        return _say(2, f"that is not JSON: {error}")
    if not isinstance(body, dict):
        return _say(2, "expected a JSON object")
    headers = {"Content-Type": "application/json"}
    if token := environ.get(TOKEN_ENV):
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection = _UnixConnection(path) if path else _connection(url)
        connection.request("POST", PATH, json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return _say(1, f"the sidecar cannot be reached: {error}")
    if response.status == http.HTTPStatus.OK:
        return 0
    return _say(1, f"the sidecar refused: {_reason(answer)}")


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT)


def _reason(answer: str) -> str:
    try:
        error = json.loads(answer)["error"]
    except (ValueError, KeyError, TypeError):
        return answer.strip()
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _say(code: int, message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code
