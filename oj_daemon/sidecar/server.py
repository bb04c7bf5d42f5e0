"""The HTTP API of the sidecar: who may ask, what is asked, and how the answer looks.

Rule: a handler reads a request, asks the session, shapes the answer; nothing else. Errors have one shape everywhere:
`{"error": {"code", "message"}}`. There is no CORS: what a browser sends on behalf of a web page is refused.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from oj_daemon.drivers.base import Answer, Json, QuestionAnswer
from oj_daemon.errors import AdapterError, OjError
from oj_daemon.settings import Secret
from oj_daemon.sidecar import frames, keys, streams
from oj_daemon.sidecar.exec import ExecRequest, Execs
from oj_daemon.sidecar.frames import Shape
from oj_daemon.sidecar.session import Session
from oj_daemon.sidecar.sources import catch_up
from oj_daemon.sidecar.streams import Attachment, Listener, output_shape, screen_shape
from oj_daemon.sidecar.values import (
    ApiReply,
    Input,
    Nudge,
    Resolve,
    Respond,
    SetStart,
    SetStop,
    StartHookAsked,
    StopHookAsked,
)

logger = logging.getLogger(__name__)

API: Final = "/api/v1"
BODY_MOST: Final = 65 * 1024 * 1024
"""A hook may carry a whole file."""
OPEN: Final = frozenset({f"{API}/health", f"{API}/ready", f"{API}/livez"})
"""Answered without a token: probes."""
HOOKS: Final = (f"{API}/hooks/", f"{API}/stop/resolve")
"""What the agent's own token opens; everything else needs the daemon's."""
NUDGES_KEPT: Final = 1000
"""Deliveries whose answer is remembered."""
STREAM_SECONDS: Final = 0.2
"""How often a followed output is looked at."""
_STATUS: Final = {
    "exited": (410, "EXITED"),
    "busy": (409, "AGENT_BUSY"),
    "not_found": (404, "NOT_FOUND"),
    "conflict": (409, "CONFLICT"),
    "invalid": (400, "BAD_REQUEST"),
    "cwd": (400, "BAD_REQUEST"),
}
_CODES: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "TOO_LARGE"}
_ERROR_KEY: Final = "error"

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """What was asked cannot be done; becomes the error reply."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Tokens:
    """Who may do what."""

    def __init__(self, full: Secret[str], hook: Secret[str]) -> None:
        self._full = full.reveal().encode()
        self._hook = hook.reveal().encode()

    @property
    def is_needed(self) -> bool:
        """There is a token at all."""
        return bool(self._full)

    def is_full(self, token: str) -> bool:
        """This is the daemon's."""
        return hmac.compare_digest(token.encode(), self._full)

    def is_hook(self, token: str) -> bool:
        """This is the agent's."""
        return bool(self._hook) and hmac.compare_digest(token.encode(), self._hook)


# -- bodies --------------------------------------------------------------------------------------------------------


class NudgeBody(msgspec.Struct, frozen=True):
    """POST agent/nudge."""

    message: str
    wait_ms: int = 0
    id: str = ""
    """What is asked for again under the same id is not typed again; the first answer is given again."""


class AnswerBody(msgspec.Struct, frozen=True):
    """One answer of several."""

    option: int | None = None
    options: tuple[int, ...] = ()
    text: str | None = None


class RespondBody(msgspec.Struct, frozen=True):
    """POST agent/respond."""

    accept: bool | None = None
    option: int | None = None
    text: str | None = None
    answers: tuple[AnswerBody, ...] | None = None
    prompt_seq: int | None = None

    def answer(self) -> Answer:
        """In the words of the machine."""
        return Answer(
            accept=self.accept,
            option=self.option,
            text=self.text or "",
            answers=tuple(
                QuestionAnswer(
                    options=one.options or (() if one.option is None else (one.option,)),
                    text=one.text or "",
                )
                for one in self.answers or ()
            ),
        )


class InputBody(msgspec.Struct, frozen=True):
    """POST input."""

    text: str
    enter: bool = False


class RawBody(msgspec.Struct, frozen=True):
    """POST input/raw."""

    data: str


class KeysBody(msgspec.Struct, frozen=True):
    """POST input/keys."""

    keys: tuple[str, ...]


class SignalBody(msgspec.Struct, frozen=True):
    """POST signal."""

    signal: str | int


class SizeBody(msgspec.Struct, frozen=True):
    """POST resize."""

    cols: int
    rows: int


class HookBody(msgspec.Struct, frozen=True):
    """POST hooks/start and hooks/stop."""

    data: Json = {}
    event: str = ""


class RestartBody(msgspec.Struct, frozen=True):
    """POST session/restart."""

    force: bool = False


class EndBody(msgspec.Struct, frozen=True):
    """POST exec/{id}/end."""

    grace_ms: int = 5000


class Server:
    """The API around one session."""

    def __init__(  # noqa: PLR0913 - the composition root hands over its parts
        self,
        session: Session,
        execs: Execs,
        *,
        agent: str,
        version: str,
        tokens: Tokens,
        configs: tuple[Json, Json],
        shut_down: Callable[[], None],
        spawn: Callable[..., object],
    ) -> None:
        self._session = session
        self._execs = execs
        self._agent = agent
        self._version = version
        self._tokens = tokens
        self._stop_config, self._start_config = configs
        self._shut_down = shut_down
        self._spawn = spawn
        self._nudges: dict[str, asyncio.Future[ApiReply]] = {}

    def application(self) -> web.Application:
        """All routes."""
        application = web.Application(middlewares=[self._guard], client_max_size=BODY_MOST)
        get: dict[str, Handler] = {
            "/health": self._health,
            "/ready": self._ready,
            "/livez": self._livez,
            "/agent": self._agent_view,
            "/status": self._status,
            "/screen": self._screen,
            "/screen/text": self._screen_text,
            "/output": self._output,
            "/config/stop": self._get_stop,
            "/config/start": self._get_start,
            "/transcripts": self._transcripts,
            "/transcripts/catchup": self._catch_up,
            "/transcripts/{number}": self._transcript,
            "/session/usage": self._usage,
            "/events/catchup": self._events,
            "/exec": self._exec_list,
            "/exec/{id}": self._exec_view,
            "/exec/{id}/output": self._exec_output,
        }
        post: dict[str, Handler] = {
            "/agent/nudge": self._nudge,
            "/agent/respond": self._respond,
            "/input": self._input,
            "/input/raw": self._input_raw,
            "/input/keys": self._input_keys,
            "/signal": self._signal,
            "/resize": self._resize,
            "/hooks/stop": self._hook_stop,
            "/hooks/start": self._hook_start,
            "/hooks/event/{event}": self._hook_event,
            "/stop/resolve": self._resolve,
            "/shutdown": self._shutdown,
            "/session/restart": self._restart,
            "/exec": self._exec_start,
            "/exec/{id}/end": self._exec_end,
        }
        router = application.router
        for path, handler in get.items():
            router.add_get(API + path, handler)
        for path, handler in post.items():
            router.add_post(API + path, handler)
        router.add_put(f"{API}/config/stop", self._put_stop)
        router.add_put(f"{API}/config/start", self._put_start)
        router.add_delete(f"{API}/exec/{{id}}", self._exec_forget)
        router.add_get("/ws", self._ws)
        router.add_get("/ws/raw", self._ws_raw)
        return application

    # -- around every request --------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._admit(request)
            return await handler(request)
        except Refused as error:
            return _refusal(error.status, error.code, error.message)
        except OjError as error:
            status, code = _STATUS.get(error.code, (500, "INTERNAL"))
            return _refusal(status, code, error.message)
        except web.HTTPException as error:
            return _refusal(error.status, _CODES.get(error.status, "BAD_REQUEST"), error.reason)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            return _refusal(500, "INTERNAL", "the sidecar failed; its log says how")

    def _admit(self, request: web.Request) -> None:
        if "Origin" in request.headers:
            raise Refused(403, "FORBIDDEN", "web pages may not use this API")
        if "token" in request.query:
            raise Refused(401, "UNAUTHORIZED", "the token belongs into the Authorization header")
        if not self._tokens.is_needed or request.path in OPEN:
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._tokens.is_full(token):
            return
        if request.path.startswith(HOOKS) and self._tokens.is_hook(token):
            return
        if request.path == "/ws" and not scheme:
            return  # may send an auth frame
        raise Refused(401, "UNAUTHORIZED", "the token is missing or wrong")

    # -- views -----------------------------------------------------------------------------------------------------

    def health(self) -> Shape:
        """How sidecar and agent are."""
        session = self._session
        ended = session.ended
        return {
            "status": "stopping" if session.is_stopping else "running",
            "session_id": session.machine.session_id or session.id,
            "pid": session.pid,
            "uptime_secs": session.uptime,
            "agent": self._agent,
            "agent_state": str(session.machine.state),
            "exit": None if ended is None else {"code": ended.code, "signal": ended.signal},
            "terminal": {"cols": session.cols, "rows": session.rows},
            "terminal_cols": session.cols,
            "terminal_rows": session.rows,
            "ws_clients": session.ws_clients,
            "ready": session.machine.is_ready,
            "version": self._version,
        }

    def agent(self) -> Shape:
        """The state of the agent in full."""
        session = self._session
        machine = session.machine
        view = machine.view()
        view.pop("error", None)
        return {
            "agent": self._agent,
            **view,
            "session_id": machine.session_id or session.id,
            "prompt": frames.prompt_shape(machine.prompt),
            **frames.error_shape(machine.error),
            "screen_seq": session.screen_seq,
        }

    def status(self) -> Shape:
        """Figures."""
        session = self._session
        return {
            "session_id": session.machine.session_id or session.id,
            "state": str(session.machine.state),
            "pid": session.pid,
            "uptime_secs": session.uptime,
            "exit_code": None if session.ended is None else session.ended.status,
            "screen_seq": session.screen_seq,
            "bytes_read": session.bytes_read,
            "bytes_written": session.bytes_written,
            "ws_clients": session.ws_clients,
        }

    def usage(self) -> Shape:
        """What the agent spent."""
        session = self._session
        return {**frames.usage_shape(session.machine.usage), "uptime_secs": session.uptime}

    async def _health(self, _: web.Request) -> web.Response:
        return _json(self.health())

    async def _ready(self, _: web.Request) -> web.Response:
        is_ready = self._session.machine.is_ready
        return _json({"ready": is_ready}, status=200 if is_ready else 503)

    async def _livez(self, _: web.Request) -> web.Response:
        session = self._session
        return _json({"status": "alive", "uptime_secs": session.uptime, "pid": session.pid})

    async def _agent_view(self, _: web.Request) -> web.Response:
        return _json(self.agent())

    async def _status(self, _: web.Request) -> web.Response:
        return _json(self.status())

    async def _usage(self, _: web.Request) -> web.Response:
        return _json(self.usage())

    async def _screen(self, request: web.Request) -> web.Response:
        cursor = request.query.get("cursor", "").lower() in {"true", "1"}
        return _json(screen_shape(self._session, cursor=cursor))

    async def _screen_text(self, _: web.Request) -> web.Response:
        return web.Response(text="\n".join(self._session.screen.lines()))

    async def _output(self, request: web.Request) -> web.Response:
        limit = _query_number(request, "limit", None)
        offset = _query_number(request, "offset", 0) or 0
        return _json(output_shape(self._session, offset, limit))

    # -- steering --------------------------------------------------------------------------------------------------

    async def _ask(self, make: Callable[[int], Input]) -> web.Response:
        return _reply(await self._session.ask(make))

    async def _nudge(self, request: web.Request) -> web.Response:
        return _reply(await self._nudge_once(await _read(request, NudgeBody)))

    async def _nudge_once(self, body: NudgeBody) -> ApiReply:
        """Type a message. What was asked for under an id goes on when whoever asked goes away, and is remembered."""
        known = self._nudges.get(body.id) if body.id else None
        if known is None:
            self._need_agent()
            known = asyncio.get_running_loop().create_future()
            if body.id:
                self._nudges[body.id] = known
                if len(self._nudges) > NUDGES_KEPT:
                    del self._nudges[next(iter(self._nudges))]
            self._spawn(self._deliver(body, known))
        return await asyncio.shield(known)

    async def _deliver(self, body: NudgeBody, answered: asyncio.Future[ApiReply]) -> None:
        try:
            answered.set_result(
                await self._session.ask(lambda n: Nudge(n, body.message, body.wait_ms))
            )
        finally:
            answered.cancel()  # only where there is no answer

    async def _respond(self, request: web.Request) -> web.Response:
        body = await _read(request, RespondBody)
        self._need_agent()
        return await self._ask(lambda number: Respond(number, body.answer(), body.prompt_seq))

    async def _input(self, request: web.Request) -> web.Response:
        return _json(await self._type(await _read(request, InputBody)))

    async def _input_raw(self, request: web.Request) -> web.Response:
        return _json(await self._type_raw(await _read(request, RawBody)))

    async def _input_keys(self, request: web.Request) -> web.Response:
        return _json(await self._type_keys(await _read(request, KeysBody)))

    async def _type(self, body: InputBody) -> Shape:
        return {"bytes_written": await self._session.type_text(body.text, enter=body.enter)}

    async def _type_raw(self, body: RawBody) -> Shape:
        try:
            data = base64.b64decode(body.data, validate=True)
        except binascii.Error as error:
            raise Refused(400, "BAD_REQUEST", f"data is not base64: {error}") from error
        return {"bytes_written": await self._session.type_raw(data)}

    async def _type_keys(self, body: KeysBody) -> Shape:
        try:
            data = keys.encode(body.keys)
        except KeyError as error:
            raise Refused(400, "BAD_REQUEST", f"there is no key {error.args[0]!r}") from error
        return {"bytes_written": await self._session.type_raw(data)}

    async def _signal(self, request: web.Request) -> web.Response:
        return _json(self._send_signal(await _read(request, SignalBody)))

    def _send_signal(self, body: SignalBody) -> Shape:
        try:
            number, reach = keys.signal_of(str(body.signal))
        except KeyError as error:
            raise Refused(400, "BAD_REQUEST", f"there is no signal {body.signal!r}") from error
        self._session.signal(number, reach)
        return {"delivered": True}

    async def _resize(self, request: web.Request) -> web.Response:
        return _json(self._set_size(await _read(request, SizeBody)))

    def _set_size(self, body: SizeBody) -> Shape:
        if not (0 < body.cols <= 1000 and 0 < body.rows <= 1000):
            raise Refused(400, "BAD_REQUEST", "cols and rows are numbers from 1 to 1000")
        self._session.resize(body.cols, body.rows)
        return {"cols": body.cols, "rows": body.rows}

    def _need_agent(self) -> None:
        if self._session.ended is not None:
            raise Refused(410, "EXITED", "the agent has ended")

    # -- hooks and gate --------------------------------------------------------------------------------------------

    async def _hook_event(self, request: web.Request) -> web.Response:
        payload = await _read_object(request)
        reply = await self._session.hook(request.match_info["event"], payload)
        headers = {"Oj-Run-Seconds": str(reply.run_seconds)} if reply.run_seconds else {}
        return web.Response(text=reply.body, headers=headers)

    async def _hook_stop(self, request: web.Request) -> web.Response:
        body = await _read(request, HookBody)
        return await self._ask(lambda number: StopHookAsked(number, body.data))

    async def _hook_start(self, request: web.Request) -> web.Response:
        body = await _read(request, HookBody)
        reply = await self._session.ask(lambda number: StartHookAsked(number, body.data))
        if _ERROR_KEY in reply.body:
            return _reply(reply)
        return web.Response(text=str(reply.body.get("script", "")))

    async def _resolve(self, request: web.Request) -> web.Response:
        body = await _read_object(request)
        return await self._ask(lambda number: Resolve(number, body))

    async def _get_stop(self, _: web.Request) -> web.Response:
        return _json(self._stop_config)

    async def _get_start(self, _: web.Request) -> web.Response:
        return _json(self._start_config)

    async def _put_stop(self, request: web.Request) -> web.Response:
        return _reply(await self._configure_stop(await _read_object(request)))

    async def _put_start(self, request: web.Request) -> web.Response:
        return _reply(await self._configure_start(await _read_object(request)))

    async def _configure_stop(self, config: Json) -> ApiReply:
        reply = await self._session.ask(lambda number: SetStop(number, config))
        if reply.status == 200:
            self._stop_config = config
        return reply

    async def _configure_start(self, config: Json) -> ApiReply:
        reply = await self._session.ask(lambda number: SetStart(number, config))
        if reply.status == 200:
            self._start_config = config
        return reply

    # -- transcripts and events ------------------------------------------------------------------------------------

    async def _transcripts(self, _: web.Request) -> web.Response:
        return _json({"transcripts": msgspec.to_builtins(self._session.transcripts.list())})

    async def _transcript(self, request: web.Request) -> web.Response:
        text = request.match_info["number"]
        content = self._session.transcripts.read(int(text)) if text.isdecimal() else None
        if content is None:
            raise Refused(400, "BAD_REQUEST", f"there is no transcript {text!r}")
        if "text/plain" in request.headers.get("Accept", ""):
            name = f'attachment; filename="{text}.jsonl"'
            return web.Response(text=content, headers={"Content-Disposition": name})
        return _json({"number": int(text), "content": content})

    async def _catch_up(self, request: web.Request) -> web.Response:
        session = self._session
        found = await asyncio.to_thread(
            catch_up,
            session.transcripts,
            session.log.path,
            _query_number(request, "since_transcript", 0) or 0,
            _query_number(request, "since_line", 0) or 0,
        )
        return _json(found)

    async def _events(self, request: web.Request) -> web.Response:
        session = self._session
        since = session.states.position_before(_query_number(request, "since_seq", 0) or 0)
        hooks = _query_number(request, "since_hook_seq", 0) or 0
        since_message = _query_number(request, "since_message", None)
        states, missed = session.states.after(since, most=len(session.states))
        held, _ = session.hooks.after(hooks, most=len(session.hooks))
        return _json(
            {
                "state_events": [msgspec.Raw(entry.text.encode()) for entry in states],
                "hook_events": [msgspec.Raw(entry.text.encode()) for entry in held],
                "missed": missed,
                "messages": [] if since_message is None else _messages(session, since_message),
            }
        )

    # -- the end ---------------------------------------------------------------------------------------------------

    async def _shutdown(self, _: web.Request) -> web.Response:
        self._shut_down()
        return _json({"accepted": True})

    async def _restart(self, request: web.Request) -> web.Response:
        body = await _read(request, RestartBody)
        return _json(self._begin_restart(body), status=202)

    def _begin_restart(self, body: RestartBody) -> Shape:
        session = self._session
        if session.is_replacing or session.is_stopping:
            raise Refused(409, "SWITCH_IN_PROGRESS", "the agent is being replaced or ended already")
        session.is_replacing = True
        self._spawn(session.restart(force=body.force))
        return {"scheduled": True}

    # -- shell steps -----------------------------------------------------------------------------------------------

    async def _exec_start(self, request: web.Request) -> web.Response:
        if self._session.is_stopping:
            raise Refused(503, "STOPPING", "the sidecar is ending")
        view = self._execs.start(await _read(request, ExecRequest))
        return _json(msgspec.to_builtins(view), status=201 if view.created else 200)

    async def _exec_list(self, _: web.Request) -> web.Response:
        return _json({"runs": msgspec.to_builtins(self._execs.list())})

    async def _exec_view(self, request: web.Request) -> web.Response:
        wait_ms = _query_number(request, "wait_ms", 0) or 0
        run_id = request.match_info["id"]
        view = (
            await self._execs.wait(run_id, wait_ms / 1000) if wait_ms else self._execs.view(run_id)
        )
        return _json(msgspec.to_builtins(view))

    async def _exec_end(self, request: web.Request) -> web.Response:
        body = await _read(request, EndBody)
        view = await self._execs.end(request.match_info["id"], body.grace_ms / 1000)
        return _json(msgspec.to_builtins(view))

    async def _exec_forget(self, request: web.Request) -> web.Response:
        self._execs.forget(request.match_info["id"])
        return _json({"forgotten": True})

    async def _exec_output(self, request: web.Request) -> web.StreamResponse:
        run_id = request.match_info["id"]
        offset = _query_number(request, "offset", 0) or 0
        if request.query.get("follow", "").lower() in {"true", "1"}:
            return await self._exec_stream(request, run_id, offset)
        limit = _query_number(request, "limit", None)
        # The state first: when it says that the run is over, the size is final.
        view = self._execs.view(run_id)
        data = self._execs.output(run_id, offset, *([] if limit is None else [limit]))
        return _json(
            {
                "data": base64.b64encode(data).decode(),
                "offset": offset,
                "next_offset": offset + len(data),
                "total_written": view.output_size,
                "state": view.state,
                "status": view.status,
            }
        )

    async def _exec_stream(
        self, request: web.Request, run_id: str, offset: int
    ) -> web.StreamResponse:
        """The output as it comes, until the run is over. The status is fetched afterwards."""
        self._execs.view(run_id)  # there is one
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        pause = 0.02
        while True:
            is_over = self._execs.view(run_id).state != "running"
            while data := self._execs.output(run_id, offset):
                offset += len(data)
                pause = 0.02
                await response.write(data)
            if is_over:
                break
            await self._execs.wait(run_id, pause)
            pause = min(pause * 2, STREAM_SECONDS)
        await response.write_eof()
        return response

    # -- WebSockets ------------------------------------------------------------------------------------------------

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            heartbeat=streams.HEARTBEAT_SECONDS, max_msg_size=streams.MESSAGE_MOST
        )
        await socket.prepare(request)
        is_authentic = not self._tokens.is_needed or "Authorization" in request.headers
        listener = Listener(
            self._session,
            socket,
            verbs=self._verbs(),
            is_authentic=is_authentic,
            check=self._tokens.is_full,
            query=request.query,
        )
        await listener.run()
        return socket

    async def _ws_raw(self, request: web.Request) -> web.StreamResponse:
        cols = _query_number(request, "cols", None)
        rows = _query_number(request, "rows", None)
        if cols is not None and rows is not None:
            self._set_size(SizeBody(cols, rows))
        socket = web.WebSocketResponse(
            heartbeat=streams.HEARTBEAT_SECONDS, max_msg_size=streams.MESSAGE_MOST
        )
        await socket.prepare(request)
        await Attachment(self._session, socket).run()
        return socket

    def _verbs(self) -> Mapping[str, streams.Verb]:
        """Client frames that mean the same as an endpoint."""
        session = self._session

        async def ask(event: str, make: Callable[[int], Input]) -> Shape:
            return _as_frame(event, await session.ask(make))

        async def nudge(frame: Json) -> Shape:
            return _as_frame("nudged", await self._nudge_once(_convert(frame, NudgeBody)))

        async def respond(frame: Json) -> Shape:
            body = _convert(frame, RespondBody)
            self._need_agent()
            return await ask("response", lambda n: Respond(n, body.answer(), body.prompt_seq))

        async def resolve(frame: Json) -> Shape:
            body = _object(frame.get("body", {}))
            return await ask("stop:resolved", lambda n: Resolve(n, body))

        async def shutdown(_: Json) -> Shape:
            self._shut_down()
            return {"event": "shutdown", "accepted": True}

        async def catchup(frame: Json) -> Shape:
            since = _convert(frame, _CatchUp)
            found = catch_up(
                session.transcripts, session.log.path, since.since_transcript, since.since_line
            )
            return {"event": "transcript:catchup", **found}

        async def transcript(frame: Json) -> Shape:
            number = _convert(frame, _Number).number
            content = session.transcripts.read(number)
            if content is None:
                raise Refused(400, "BAD_REQUEST", f"there is no transcript {number}")
            return {"event": "transcript:content", "number": number, "content": content}

        def view(event: str, make: Callable[[Json], object]) -> streams.Verb:
            async def verb(frame: Json) -> Shape:
                made = make(frame)
                shape = await made if isinstance(made, Awaitable) else made
                if isinstance(shape, ApiReply):
                    return _as_frame(event, shape)
                return {"event": event, **_object(shape)}

            return verb

        def listed(_: Json) -> Shape:
            return {"transcripts": msgspec.to_builtins(session.transcripts.list())}

        start_put = view(
            "start:configured", lambda f: self._configure_start(_object(f.get("config")))
        )
        verbs: dict[str, streams.Verb] = {
            "health:get": view("health", lambda _: self.health()),
            "ready:get": view("ready", lambda _: {"ready": session.machine.is_ready}),
            "agent:get": view("agent", lambda _: self.agent()),
            "status:get": view("status", lambda _: self.status()),
            "usage:get": view("usage", lambda _: self.usage()),
            "screen:get": view("screen", lambda f: screen_shape(session, cursor=f.get("cursor") is True)),
            "input:send": view("input:sent", lambda f: self._type(_convert(f, InputBody))),
            "input:send:raw": view("input:sent", lambda f: self._type_raw(_convert(f, RawBody))),
            "keys:send": view("input:sent", lambda f: self._type_keys(_convert(f, KeysBody))),
            "resize": view("resized", lambda f: self._set_size(_convert(f, SizeBody))),
            "signal:send": view("signal:sent", lambda f: self._send_signal(_convert(f, SignalBody))),
            "nudge": nudge,
            "respond": respond,
            "stop:resolve": resolve,
            "shutdown": shutdown,
            "transcript:list": view("transcript:list", listed),
            "transcript:get": transcript,
            "transcript:catchup": catchup,
            "stop:config:get": view("stop:config", lambda _: {"config": self._stop_config}),
            "config:start:get": view("start:config", lambda _: {"config": self._start_config}),
            "stop:config:put": view("stop:configured", lambda f: self._configure_stop(_object(f.get("config")))),
            "config:start:put": start_put,
            "config:put:get": start_put,
            "session:restart": view("session:restarted", lambda f: self._begin_restart(_convert(f, RestartBody))),
        }  # fmt: skip
        return {name: _guarded(verb) for name, verb in verbs.items()}


class _CatchUp(msgspec.Struct, frozen=True):
    since_transcript: int = 0
    since_line: int = 0


class _Number(msgspec.Struct, frozen=True):
    number: int


# -- shapes --------------------------------------------------------------------------------------------------------


def _guarded(verb: streams.Verb) -> streams.Verb:
    """Refusals become error frames."""

    async def guarded(frame: Json) -> Shape:
        try:
            return await verb(frame)
        except Refused as error:
            return {"event": "error", "code": error.code, "message": error.message}
        except AdapterError as error:
            _, code = _STATUS.get(error.code, (500, "INTERNAL"))
            return {"event": "error", "code": code, "message": error.message}

    return guarded


def _as_frame(event: str, reply: ApiReply) -> Shape:
    error = reply.body.get(_ERROR_KEY)
    if isinstance(error, Mapping):
        return {"event": "error", **error}
    if isinstance(error, str):
        return {"event": "error", "code": "REJECTED", "message": error}
    return {"event": event, **reply.body}


def _messages(session: Session, since: int) -> list[msgspec.Raw]:
    """Entries of the session log after a position, each with its own."""
    journal = session.messages
    entries, _ = journal.after(since, most=len(journal))
    return [
        msgspec.Raw(f'{entry.text[:-1]},"pos":{entry.position}}}'.encode()) for entry in entries
    ]


def _reply(reply: ApiReply) -> web.Response:
    return _json(reply.body, status=reply.status)


def _json(body: object, *, status: int = 200) -> web.Response:
    data = msgspec.json.encode(body)
    return web.Response(body=data, status=status, content_type="application/json")


def _refusal(status: int, code: str, message: str) -> web.Response:
    return _json({"error": {"code": code, "message": message}}, status=status)


async def _read(request: web.Request, kind: type[T]) -> T:
    body = await request.read()
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        raise Refused(400, "BAD_REQUEST", f"the body is not what is expected: {error}") from error


async def _read_object(request: web.Request) -> Json:
    body = await request.read()
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, object])
    except msgspec.MsgspecError as error:
        raise Refused(400, "BAD_REQUEST", f"the body is not a JSON object: {error}") from error


def _convert(frame: Json, kind: type[T]) -> T:
    try:
        return msgspec.convert(frame, kind)
    except msgspec.MsgspecError as error:
        raise Refused(400, "BAD_REQUEST", f"the frame is not what is expected: {error}") from error


def _object(value: object) -> Json:
    if not isinstance(value, Mapping):
        raise Refused(400, "BAD_REQUEST", "expected a JSON object")
    return value


def _query_number(request: web.Request, name: str, default: int | None) -> int | None:
    text = request.query.get(name)
    if text is None or not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise Refused(400, "BAD_REQUEST", f"{name} is a number")
    return int(text)
