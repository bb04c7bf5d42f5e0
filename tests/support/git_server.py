"""A git server over HTTP that wants a user and a password: real `git http-backend` behind a few lines.

Rule: it remembers who asked it for what and with which password, so that a test can say to whom one was shown.
"""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

MOVED = "/moved"
"""What is asked for below this has moved to the other server."""


class GitServer:
    """Serves the repositories of a folder to one user."""

    def __init__(self, folder: Path, user: str, password: str, other: str = "") -> None:
        self.logins: list[str] = []
        """What each request that proved itself at all came with."""
        self._folder, self._other = folder, other
        self._wanted = f"{user}:{password}"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Serve nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._serve(self)

            def do_POST(self) -> None:
                server._serve(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        given = request.headers.get("Authorization", "")
        login = base64.b64decode(given.removeprefix("Basic ")).decode()
        if login:
            self.logins.append(login)
        if login != self._wanted:
            _reply(request, 401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
        elif request.path.startswith(f"{MOVED}/"):
            _reply(request, 302, [("Location", self._other + request.path[len(MOVED) :])], b"")
        else:
            headers, _, body = self._backend(request).partition(b"\r\n\r\n")
            pairs = [line.split(": ", 1) for line in headers.decode().split("\r\n")]
            status = next((value for name, value in pairs if name == "Status"), "200")
            kept = [(name, value) for name, value in pairs if name != "Status"]
            _reply(request, int(status.split()[0]), kept, body)

    def _backend(self, request: BaseHTTPRequestHandler) -> bytes:
        url = urlsplit(request.path)
        length = request.headers.get("Content-Length", "0")
        environ = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self._folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "REQUEST_METHOD": request.command,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": length,
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"],
            env=environ,
            input=request.rfile.read(int(length)),
            capture_output=True,
            check=True,
        )
        return done.stdout


def _reply(
    request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    request.send_response(status)
    for name, value in headers:
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@contextlib.contextmanager
def git_server(folder: Path, user: str, password: str, other: str = "") -> Iterator[GitServer]:
    """A server for one block."""
    made = GitServer(folder, user, password, other)
    try:
        yield made
    finally:
        made.close()
