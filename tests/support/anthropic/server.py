"""A loopback stand-in for the Anthropic API: answers `POST /v1/messages` from a scenario and writes down every request.

Rule: it listens on 127.0.0.1 only and never opens a connection itself. One thread per connection, standard library only,
so that it serves a test in the same process (`with ApiServer(scenario) as api: ... api.url`) as well as a script:

    python -m tests.support.anthropic.server SCENARIO.json [--port 0] [--record FILE]

prints `http://127.0.0.1:PORT` on stdout when it listens, appends each request to FILE as a JSON line, and ends by
SIGTERM or SIGINT. The format of scenarios is described in scenario.py. Beside the API it answers
`POST /_control/release/NAME` (lets go what a `hold` holds) and `GET /_control/requests`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from tests.support.anthropic.scenario import (
    COMPACTION,
    ERRORS,
    Answer,
    Asked,
    Chooser,
    Json,
    Scenario,
    fill,
    load,
)

USAGE: Final = {
    "input_tokens": 1200,
    "cache_creation_input_tokens": 10,
    "cache_read_input_tokens": 500,
    "output_tokens": 34,
}
"""What an answer costs unless the scenario says otherwise."""


class Request(msgspec.Struct, frozen=True):
    """One request as it came in, and what became of it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Json
    kind: str
    """turn, title, compact, count, probe, or other."""
    asked: Asked | None = None
    status: int = 200

    @property
    def text(self) -> str:
        """The whole body as text, in which an assertion can look for words."""
        return json.dumps(self.body, ensure_ascii=False)


class ApiServer:
    """The server, run by threads of this process."""

    def __init__(
        self,
        scenario: Scenario | Mapping[str, Any] | Path,
        port: int = 0,
        record: Path | None = None,
    ) -> None:
        self.scenario = scenario if isinstance(scenario, Scenario) else load(scenario)
        self.requests: list[Request] = []
        self.changed = threading.Condition()
        """Notified after each request was written down and after each release."""
        self.closing = False
        self._record = record
        self._chooser = Chooser(self.scenario)
        self._released: set[str] = set()
        self._ids = itertools.count(1)
        self._open: set[socket.socket] = set()
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The value for ANTHROPIC_BASE_URL."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def turns(self) -> list[Request]:
        """The requests that belong to the conversation: no titles, no probes."""
        return [request for request in self.requests if request.kind == "turn"]

    def start(self) -> ApiServer:
        """Listen; returns itself."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening, hang up on everybody."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> ApiServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def release(self, name: str) -> None:
        """Let go the answers that hold for this name, now and later."""
        with self.changed:
            self._released.add(name)
            self.changed.notify_all()

    def note(self, request: Request) -> None:
        """Write a request down."""
        with self.changed:
            self.requests.append(request)
            if self._record is not None:
                with self._record.open("ab") as file:
                    file.write(msgspec.json.encode(request) + b"\n")
            self.changed.notify_all()

    def choose(self, asked: Asked) -> Answer:
        """Return the scenario's answer."""
        with self.changed:
            return self._chooser.choose(asked)

    def wait_released(self, name: str) -> bool:
        """Wait for release(); False when the server is being closed instead."""
        with self.changed:
            self.changed.wait_for(lambda: self.closing or name in self._released)
            return name in self._released

    def pause(self, seconds: float) -> bool:
        """Wait a while; False when the server is being closed."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not self.closing and (left := deadline - time.monotonic()) > 0:
                self.changed.wait(left)
            return not self.closing

    def message(self, answer: Answer, asked: Asked) -> Json:
        """Build the whole message that an answer stands for."""
        content: list[Json] = []
        if answer.think:
            content.append(
                {"type": "thinking", "thinking": fill(answer.think, asked), "signature": "c2ln"}
            )
        if answer.say:
            content.append({"type": "text", "text": fill(answer.say, asked)})
        content += [
            {
                "type": "tool_use",
                "id": f"toolu_{next(self._ids):024d}",
                "name": call.name,
                "input": fill(call.input, asked),
            }
            for call in answer.calls
        ]
        return {
            "id": f"msg_{next(self._ids):024d}",
            "type": "message",
            "role": "assistant",
            "model": "",
            "content": content,
            "stop_reason": answer.stop or ("tool_use" if answer.calls else "end_turn"),
            "stop_sequence": None,
            "usage": {**USAGE, **self.scenario.usage, **answer.usage},
        }


def events(message: Json, *, endless: bool = False) -> Iterator[tuple[str, Json]]:
    """Cut a message into the events of a stream."""
    usage = dict(message["usage"])
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield "message_start", {"message": begun}
    yield "ping", {}
    for index, block in enumerate(message["content"]):
        at = {"index": index}
        match block["type"]:
            case "text":
                yield "content_block_start", {**at, "content_block": {"type": "text", "text": ""}}
                for part in itertools.cycle([block["text"]]) if endless else parts(block["text"]):
                    yield (
                        "content_block_delta",
                        {**at, "delta": {"type": "text_delta", "text": part}},
                    )
            case "thinking":
                empty = {"type": "thinking", "thinking": "", "signature": ""}
                yield "content_block_start", {**at, "content_block": empty}
                for part in parts(block["thinking"]):
                    delta = {"type": "thinking_delta", "thinking": part}
                    yield "content_block_delta", {**at, "delta": delta}
                delta = {"type": "signature_delta", "signature": block["signature"]}
                yield "content_block_delta", {**at, "delta": delta}
            case _:
                yield "content_block_start", {**at, "content_block": {**block, "input": {}}}
                for part in parts(json.dumps(block["input"], ensure_ascii=False)):
                    delta = {"type": "input_json_delta", "partial_json": part}
                    yield "content_block_delta", {**at, "delta": delta}
        yield "content_block_stop", at
    ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"delta": ended, "usage": {"output_tokens": usage["output_tokens"]}}
    yield "message_stop", {}


def parts(text: str, size: int = 40) -> Iterator[str]:
    """Cut a text into the pieces that a stream delivers."""
    for begin in range(0, len(text), size):
        yield text[begin : begin + size]


class _Http(ThreadingHTTPServer):
    """Threads that end with the process: a client that never leaves must not hold up a test."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    owner: ApiServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about a client that went away; that is what clients under test do."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it came


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Requests are kept, not printed."""

    def do_HEAD(self) -> None:
        self._probe()

    def do_GET(self) -> None:
        api = self.server.owner
        if self.path == "/_control/requests":
            self._json(200, msgspec.to_builtins(api.requests))
        elif self.path.startswith("/v1/models"):
            self._note("other")
            self._json(200, {"data": [], "has_more": False, "first_id": None, "last_id": None})
        else:
            self._probe()

    def do_POST(self) -> None:
        api = self.server.owner
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if path.startswith("/_control/release/"):
            api.release(path.rpartition("/")[2])
            self._json(200, {})
            return
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            self._error(Answer(status=400, message="the body is not JSON"))
            return
        if path == "/v1/messages/count_tokens":
            self._note("count", body)
            self._json(200, {"input_tokens": len(raw) // 4})
        elif path == "/v1/messages":
            self._messages(body)
        else:
            self._note("other", body, status=404)
            self._error(Answer(status=404))

    def _messages(self, body: Json) -> None:
        api = self.server.owner
        asked = Asked.of(body)
        if not asked.tools:
            # Small errands without tools (a title for the session) are no part of the story.
            self._note("title", body, asked)
            answer = Answer(say=json.dumps({"title": api.scenario.title}))
        elif COMPACTION in asked.prompt:
            self._note("compact", body, asked)
            answer = Answer(say=f"<summary>{api.scenario.summary}</summary>")
        else:
            answer = api.choose(asked)
            self._note("turn", body, asked, answer.status)
        if answer.hold and not api.wait_released(answer.hold):
            self.close_connection = True
        elif answer.status != 200:
            self._error(answer)
        elif body.get("stream"):
            self._stream(answer, asked, body)
        else:
            self._json(200, {**api.message(answer, asked), "model": body.get("model", "")})

    def _stream(self, answer: Answer, asked: Asked, body: Json) -> None:
        api = self.server.owner
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("request-id", "req_test")
        self.end_headers()
        message = {**api.message(answer, asked), "model": body.get("model", "")}
        for count, (name, data) in enumerate(events(message, endless=answer.endless)):
            pause = answer.pause or (0.05 if answer.endless else 0.0)
            if pause and count and not api.pause(pause):
                self.close_connection = True
                return
            raw = f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()
            if answer.cut is not None and count >= answer.cut:
                self._chunk(raw[: len(raw) // 2])
                # Without the last chunk: the client sees a broken body, not an end.
                self.close_connection = True
                return
            if answer.error_after is not None and count >= answer.error_after:
                error = _error_body(answer if answer.type else Answer(status=529))
                self._chunk(f"event: error\ndata: {json.dumps(error)}\n\n".encode())
                break
            self._chunk(raw)
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, raw: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        self.wfile.flush()

    def _probe(self) -> None:
        self._note("probe")
        self._json(200, {})

    def _error(self, answer: Answer) -> None:
        headers = {} if answer.retry_after is None else {"retry-after": f"{answer.retry_after:g}"}
        self._json(answer.status, _error_body(answer), headers)

    def _note(
        self, kind: str, body: Json | None = None, asked: Asked | None = None, status: int = 200
    ) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.owner.note(
            Request(self.command, self.path, headers, body or {}, kind, asked, status)
        )

    def _json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)


def _error_body(answer: Answer) -> Json:
    kind, message = ERRORS.get(answer.status, ("api_error", "error"))
    return {
        "type": "error",
        "error": {"type": answer.type or kind, "message": answer.message or message},
        "request_id": "req_test",
    }


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("scenario", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    try:
        server = ApiServer(options.scenario, options.port, options.record)
    except (OSError, msgspec.MsgspecError) as error:
        sys.exit(f"Error: {options.scenario}: {error}")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        ended.wait()


if __name__ == "__main__":
    main()
