"""The HTTP port: is it alive, is it ready, how much of what.

Rule: answers without asking anybody: liveness is that the event loop gets to answer and the log can be written, whatever is
down elsewhere. Reads no request body, keeps no connection, and no client, however slow, holds up another. Imported only where
there is an HTTP port, because aiohttp is not cheap.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

from aiohttp import web

from oj_daemon.errors import OjError
from oj_daemon.readiness import Readiness

logger = logging.getLogger(__name__)

CONNECTION_SECONDS: Final = 10.0
"""The whole life of a connection; a probe or a scrape takes milliseconds."""
CONNECTIONS: Final = 64
"""At once; the oldest makes room for the next, so that idle ones keep no probe out."""
LINE_BYTES: Final = 4096
"""The longest request line, and the longest header."""
TICK_SECONDS: Final = 1.0
"""How often it is measured how late the event loop is."""
HEADERS: Final = {"Server": "oj", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Figures(Protocol):
    """What /metrics shows (`metrics.Metrics`)."""

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All figures as text, and its content type."""

    def note_lag(self, seconds: float) -> None:
        """The event loop was that late."""


@contextlib.asynccontextmanager
async def serve(host: str, port: int, readiness: Readiness, figures: Figures) -> AsyncIterator[int]:
    """Answer probes and scrapes while the block runs; gives the port, raises OjError when it cannot be had."""
    loop = asyncio.get_running_loop()
    health = Health(readiness, figures)
    server = web.Server(health.answer)
    try:
        listening = await loop.create_server(lambda: _Connection(server), host, port)
    except OSError as exc:
        raise OjError(
            f"listen on {host} port {port} for probes and metrics: {exc.strerror or exc}",
            code="unavailable",
            hint="set OJ_HTTP_PORT to a port that is free, or to off; OJ_HTTP_BIND is the address",
        ) from exc
    pulse = Pulse(loop, figures.note_lag)
    logger.info("answering probes and scrapes on %s port %d", host, port)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        pulse.stop()
        listening.close()
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()


class Health:
    """What is answered."""

    def __init__(self, readiness: Readiness, figures: Figures) -> None:
        self._readiness = readiness
        self._figures = figures
        self._pages: dict[str, Callable[[web.BaseRequest], web.Response]] = {
            "/healthz": self._alive,
            "/livez": self._alive,
            "/readyz": self._ready,
            "/metrics": self._metrics,
        }

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and hang up."""
        try:
            response = self._answer(request)
        except Exception:
            logger.exception("%s failed", request.path)
            response = _text(500, "internal error; see oj daemon logs")
        return _last(response)

    def _answer(self, request: web.BaseRequest) -> web.Response:
        page = self._pages.get(request.path)
        if page is None:
            return _text(404, f"not found; there are {', '.join(self._pages)}")
        if request.method not in ("GET", "HEAD"):
            response = _text(405, "GET or HEAD only")
            response.headers["Allow"] = "GET, HEAD"
            return response
        if request.body_exists:
            return _text(413, "no body is read here")
        return page(request)

    def _alive(self, _: web.BaseRequest) -> web.Response:
        if self._readiness.broken:
            return _json(500, {"status": "broken", "reason": self._readiness.broken})
        return _json(200, {"status": "ok"})

    def _ready(self, _: web.BaseRequest) -> web.Response:
        conditions = [condition._asdict() for condition in self._readiness.report()]
        is_ready = self._readiness.is_ready
        told = {"ready": is_ready, "conditions": conditions, "broken": self._readiness.broken}
        return _json(200 if is_ready else 503, told)

    def _metrics(self, request: web.BaseRequest) -> web.Response:
        body, content_type = self._figures.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


class Pulse:
    """Tells again and again how late the event loop is."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: Callable[[float], None]) -> None:
        self._loop = loop
        self._tell = tell
        self._due = loop.time() + TICK_SECONDS
        self._handle = loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        now = self._loop.time()
        self._tell(max(0.0, now - self._due))
        self._due = now + TICK_SECONDS
        self._handle = self._loop.call_at(self._due, self._beat)

    def stop(self) -> None:
        """Tell nothing any more."""
        self._handle.cancel()


class _Connection(web.RequestHandler):
    """One client: it has CONNECTION_SECONDS for all that it wants."""

    __slots__ = ("_end", "_server")

    def __init__(self, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            logger=_quiet,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own word for none
            max_line_size=LINE_BYTES,
            max_field_size=LINE_BYTES,
            max_headers=64,
            lingering_time=0,
            auto_decompress=False,
        )
        self._server = server
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the next one in, and the oldest out when there are too many."""
        others = [other.transport for other in self._server.connections]
        lasting = [other for other in others if other is not None and not other.is_closing()]
        if len(lasting) >= CONNECTIONS:
            lasting[0].abort()
        super().connection_made(transport)
        self._end = self._loop.call_later(CONNECTION_SECONDS, self._hang_up)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is over."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - as aiohttp calls it
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - the same
        message: str | None = None,  # noqa: ARG002 - it repeats what was sent
    ) -> web.StreamResponse:
        """Answer what is no HTTP."""
        return _last(_text(status, "this cannot be read as HTTP"))

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.abort()  # `close` would wait until the client has read everything


_quiet = logging.getLogger(f"{__name__}.http")
"""What strangers send is no news of the daemon."""
_quiet.setLevel(logging.CRITICAL)


def _last(response: web.Response) -> web.Response:
    """The only answer on its connection."""
    response.headers.update(HEADERS)
    response.force_close()
    return response


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")


def _json(status: int, body: dict[str, Any]) -> web.Response:
    text = json.dumps(body) + "\n"
    return web.Response(status=status, text=text, content_type="application/json")
