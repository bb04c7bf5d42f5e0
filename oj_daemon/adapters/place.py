"""The daemon's client of a place (`oj-sidecar --place`): its steps, its files, and the way to the agents in it.

Rule: one client for each place, with one pool of connections that stays open. Every failure is an AdapterError of one sentence
that names the place; nothing is tried twice here, and that a place is dead is never concluded here. Codes:

    unreachable   no connection, or it broke, or no answer in time
    untrusted     whoever answers is not the place: its certificate is another's
    refused       the place does not let us in (token, client certificate)
    gone          the place answers, and what was asked for is not there
    stopping      the place is ending
    conflict      what was asked for cannot be done now
    failed        everything else
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
from collections.abc import AsyncIterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from oj_daemon.errors import AdapterError
from oj_daemon.settings import Secret
from oj_daemon.shell import RunState

if TYPE_CHECKING:
    import ssl

    from aiohttp import ClientSession

T = TypeVar("T")

CONNECT_SECONDS: Final = 10.0
REPLY_SECONDS: Final = 30.0
"""Longest wait for one reply, besides what the place was asked to wait."""
FILE_SECONDS: Final = 300.0
FILE_MOST: Final = 64 * 1024 * 1024
WAIT_SECONDS: Final = 30.0
"""What one request waits for a change by default."""
_CODES: Final = {
    401: "refused",
    403: "refused",
    404: "gone",
    409: "conflict",
    502: "unreachable",
    503: "stopping",
}


class PlaceHealth(msgspec.Struct, frozen=True):
    """How a place is."""

    status: str
    """running or stopping"""
    boot: str = ""
    """Another one after each start of the place: what ran before that does not run any more."""
    uptime_secs: float = 0
    version: str = ""


class PlaceRun(msgspec.Struct, frozen=True):
    """A shell step in a place."""

    run_id: str = msgspec.field(name="id")
    state: RunState = RunState.NEVER
    status: int | None = None
    """The script's, once exited; 128 + n after signal n."""
    output_size: int = 0
    detail: str = ""
    created: bool = False
    """This very request started it."""


class PlaceOutput(msgspec.Struct, frozen=True):
    """A piece of a step's output."""

    data: bytes
    next_offset: int
    """Where to go on."""
    is_over: bool
    """The step has ended, and there is nothing past this piece."""


class _Runs(msgspec.Struct, frozen=True):
    runs: tuple[PlaceRun, ...]


class _Piece(msgspec.Struct, frozen=True):
    data: str
    next_offset: int
    total_written: int
    state: RunState


class _Stored(msgspec.Struct, frozen=True):
    path: str


class PlaceClient:
    """One place. `server_hostname` is the name in its certificate, where that is not the host of the URL."""

    def __init__(
        self,
        url: str,
        token: Secret[str],
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str = "",
    ) -> None:
        self._token = token
        self._ssl = ssl_context
        self._server_hostname = server_hostname
        self._client: ClientSession | None = None
        self._host = ""
        self._base = ""
        self.move(url)

    def move(self, url: str) -> None:
        """The place has another address from now on; connections that are open stay."""
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._base = f"{parts.scheme}://{self._server_hostname or parts.netloc}"
        if self._server_hostname and parts.port is not None:
            self._base += f":{parts.port}"

    # -- the place itself ------------------------------------------------------------------------------------------

    async def health(self) -> PlaceHealth:
        """How it is; needs no token."""
        return await self._ask("GET", "health", PlaceHealth)

    async def shutdown(self) -> None:
        """Let it end, with everything in it."""
        await self._ask("POST", "shutdown", dict[str, Any])

    async def close(self) -> None:
        """Let go of the connections; the place lives on."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    # -- shell steps -----------------------------------------------------------------------------------------------

    async def start(  # noqa: PLR0913 - what a step is
        self,
        run_id: str,
        script: str,
        *,
        env: Mapping[str, str],
        cwd: str = "",
        umask: int = 0o022,
        inherit: bool = True,
    ) -> PlaceRun:
        """Start a step unless it was started before; says how it is. `inherit`: on top of the place's environment."""
        body = {
            "id": run_id, "script": script, "env": dict(env), "cwd": cwd, "umask": umask, "inherit": inherit,
        }  # fmt: skip
        return await self._ask("POST", "exec", PlaceRun, body)

    async def view(self, run_id: str) -> PlaceRun:
        """How a step is; NEVER when the place knows none of that name."""
        return await self._view(run_id, 0)

    async def wait(self, run_id: str, seconds: float = WAIT_SECONDS) -> PlaceRun:
        """How a step is once it has ended, or after so many seconds."""
        return await self._view(run_id, seconds)

    async def _view(self, run_id: str, seconds: float) -> PlaceRun:
        path = f"{_run_path(run_id)}?wait_ms={int(seconds * 1000)}"
        try:
            return await self._ask("GET", path, PlaceRun, patience=seconds)
        except AdapterError as error:
            if error.code != "gone":
                raise
            return PlaceRun(run_id)

    async def output(
        self, run_id: str, offset: int, seconds: float = WAIT_SECONDS, limit: int | None = None
    ) -> PlaceOutput:
        """The output from a place on, as soon as there is any; empty after so many seconds, and at its end."""
        path = f"{_run_path(run_id)}/output?offset={offset}&wait_ms={int(seconds * 1000)}"
        path += "" if limit is None else f"&limit={limit}"
        found = await self._ask("GET", path, _Piece, patience=seconds)
        return PlaceOutput(
            data=base64.b64decode(found.data),
            next_offset=found.next_offset,
            is_over=found.state is not RunState.RUNNING
            and found.next_offset >= found.total_written,
        )

    async def end(self, run_id: str, grace_seconds: float = 5.0) -> PlaceRun:
        """End a step with everything it started; NEVER when the place knows none of that name."""
        body = {"grace_ms": int(grace_seconds * 1000)}
        try:
            path = f"{_run_path(run_id)}/end"
            return await self._ask("POST", path, PlaceRun, body, patience=grace_seconds)
        except AdapterError as error:
            if error.code != "gone":
                raise
            return PlaceRun(run_id)

    async def forget(self, run_id: str) -> None:
        """Remove what the place knows about a step that has ended; no error when it knows nothing."""
        try:
            await self._ask("DELETE", _run_path(run_id), dict[str, Any])
        except AdapterError as error:
            if error.code != "gone":
                raise

    async def runs(self) -> tuple[PlaceRun, ...]:
        """Every step that was not forgotten."""
        return (await self._ask("GET", "exec", _Runs)).runs

    # -- files -----------------------------------------------------------------------------------------------------

    async def put_file(self, name: str, data: bytes) -> PurePosixPath:
        """Write a file of the place's folder; its path there."""
        found = await self._ask(
            "PUT", f"files/{_quoted(name)}", _Stored, data, patience=FILE_SECONDS
        )
        return PurePosixPath(found.path)

    async def get_file(self, name: str, most: int = FILE_MOST) -> bytes:
        """Read a file of the place's folder."""
        async with self._reply("GET", f"files/{_quoted(name)}", None, FILE_SECONDS) as reply:
            kept = bytearray()
            async for data in reply.content.iter_any():
                kept += data
                if len(kept) > most:
                    raise AdapterError(
                        f"read {name} of {self._name}: it has more than {most} bytes", code="failed"
                    )
            return bytes(kept)

    # -- agents ----------------------------------------------------------------------------------------------------

    def session_url(self, agent_id: str) -> str:
        """What the URLs of an agent's sidecar begin with."""
        return f"{self._base}/agents/{_quoted(agent_id)}"

    def agent(self, agent_id: str) -> AgentTransport:
        """The way to an agent's sidecar, for a `Session`."""
        return AgentTransport(self, agent_id)

    # -- requests --------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"the place {self._server_hostname or self._base}"

    def client(self) -> ClientSession:
        """The connections to the place, opened when first needed."""
        if self._client is None or self._client.closed:
            import aiohttp  # noqa: PLC0415 - 200 ms and 10 MB, for daemons that have places

            from oj_daemon.adapters.resolver import Resolver  # noqa: PLC0415 - made of it

            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    # Each agent holds a stream, each step a question: nobody waits for another.
                    limit=0,
                    ssl=self._ssl if self._ssl is not None else True,
                    resolver=Resolver(lambda: self._host) if self._server_hostname else None,
                    use_dns_cache=False,
                ),
                headers={"Authorization": f"Bearer {self._token.reveal()}"} if self._token else {},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._client

    async def _ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        body: Mapping[str, object] | bytes | None = None,
        patience: float = 0.0,
    ) -> T:
        async with self._reply(method, path, body, patience) as reply:
            text = await reply.read()
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.MsgspecError as error:
            raise AdapterError(
                f"ask {self._name} for {path}: its answer makes no sense: {error}", code="failed"
            ) from error

    @contextlib.asynccontextmanager
    async def _reply(
        self, method: str, path: str, body: Mapping[str, object] | bytes | None, patience: float
    ) -> AsyncIterator[Any]:
        """The reply to one request; AdapterError when there is none, or a refusal."""
        import aiohttp  # noqa: PLC0415 - see above

        what = f"ask {self._name} for {path.partition('?')[0]}"
        # As a file: a large body is written piece by piece.
        data = None if body is None else io.BytesIO(_bytes(body))
        try:
            async with (
                asyncio.timeout(REPLY_SECONDS + patience),
                self.client().request(
                    method, f"{self._base}/api/v1/{path}", data=data, allow_redirects=False
                ) as reply,
            ):
                if reply.status >= 300:
                    reason = _reason(await reply.read())
                    code = _CODES.get(reply.status, "failed")
                    raise AdapterError(f"{what}: {reason}", code=code)
                yield reply
        except aiohttp.ClientConnectorCertificateError as error:
            reason = str(error.certificate_error)
            raise AdapterError(f"{what}: {reason}", code="untrusted") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            raise AdapterError(
                f"{what}: {reason or type(error).__name__}", code="unreachable"
            ) from error


class AgentTransport:
    """The way to one agent's sidecar through its place."""

    def __init__(self, place: PlaceClient, agent_id: str) -> None:
        self._place = place
        self._agent_id = agent_id

    @property
    def base(self) -> str:
        """What its URLs begin with."""
        return self._place.session_url(self._agent_id)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[ClientSession]:
        """The connections to the place."""
        yield self._place.client()


def _bytes(body: Mapping[str, object] | bytes) -> bytes:
    return body if isinstance(body, bytes) else msgspec.json.encode(body)


def _quoted(name: str) -> str:
    """One word of a path, slashes and dots included: nothing between here and the place reads more into it."""
    return quote(name, safe="")


def _run_path(run_id: str) -> str:
    return f"exec/{_quoted(run_id)}"


def _reason(text: bytes) -> str:
    try:
        return str(msgspec.json.decode(text)["error"]["message"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return text.decode("utf-8", "replace")[:200] or "refused without a reason"
