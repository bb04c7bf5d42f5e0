"""A receiver of webhooks: writes down what was posted to it, and answers what it was told to.

Rule: it knows HTTP and nothing of us. Answers are used in turn, the last one again and again.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.support.waiting import until


class Answer(NamedTuple):
    """What it answers."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b"ok"
    hangs: bool = False
    """It says nothing until it is closed."""


class Post(NamedTuple):
    """What was posted."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def key(self) -> str:
        return self.headers["x-oj-delivery"]


class Receiver:
    """Listens on a port of the loopback from threads of this process."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        self.posts: list[Post] = []
        self._answers = list(answers) or [Answer()]
        self._closing = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = False
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        """With a path that is as secret as those of chat services."""
        return f"http://127.0.0.1:{self.port}/hooks/S3CRETPATH"

    def of(self, event: str) -> list[Post]:
        """What was posted about an event."""
        return [post for post in self.posts if post.json["event"] == event]

    def until(self, count: int, seconds: float = 60) -> list[Post]:
        """Wait until so many were posted."""
        until(lambda: len(self.posts) >= count, seconds, lambda: f"{count} posts: {self.posts}")
        return self.posts

    def close(self) -> None:
        """Stop listening and end all threads."""
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.posts.append(Post(handler.path, headers, raw))
        if answer.hangs:
            self._closing.wait(60)
            return
        handler.send_response(answer.status)
        for name, value in answer.headers:
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        handler.wfile.write(answer.body)
