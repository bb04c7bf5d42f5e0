"""The HTTP side of the API: who may ask, which path means what.

Rule: a handler reads a request, asks the API, shapes the answer; nothing else. Errors have one shape everywhere:
`{"error": {"code", "message"}}`. There is no CORS: what a browser sends on behalf of a web page is refused.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from oj_daemon.sidecar import streams
from oj_daemon.sidecar.admission import (
    API,
    OPEN,
    Handler,
    Tokens,
    bearer,
    forbid_strangers,
    guarded,
)
from oj_daemon.sidecar.api import Api
from oj_daemon.sidecar.bodies import (
    MESSAGE_MOST,
    HookBody,
    InputBody,
    KeysBody,
    NudgeBody,
    RawBody,
    Refused,
    RespondBody,
    RestartBody,
    SignalBody,
    SizeBody,
    bad,
    decode,
)
from oj_daemon.sidecar.replies import flag, json_reply, number
from oj_daemon.sidecar.steps import Steps
from oj_daemon.sidecar.streams import Attachment, Listener
from oj_daemon.sidecar.values import ApiReply, StartHookAsked, StopHookAsked
from oj_daemon.sidecar.verbs import ERROR, verbs

BODY_MOST: Final = 65 * 1024 * 1024
"""A hook may carry a whole file."""
HOOKS: Final = (f"{API}/hooks/", f"{API}/stop/resolve")
"""What the agent's own token opens; everything else needs the daemon's."""
RUN_SECONDS: Final = "Oj-Run-Seconds"


class Server:
    """Routes and admission."""

    def __init__(self, api: Api, steps: Steps, tokens: Tokens, *, needs_certificate: bool) -> None:
        self._api = api
        self._steps = steps
        self._tokens = tokens
        self._needs_certificate = needs_certificate

    def application(self) -> web.Application:
        """All routes."""
        application = web.Application(middlewares=[guarded(self._admit)], client_max_size=BODY_MOST)
        router = application.router
        get: dict[str, Handler] = {
            "/health": self._health,
            "/ready": self._ready,
            "/livez": self._livez,
            "/agent": self._agent,
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
        }
        for path, handler in get.items():
            router.add_get(API + path, handler)
        for path, handler in post.items():
            router.add_post(API + path, handler)
        router.add_put(f"{API}/config/stop", self._put_stop)
        router.add_put(f"{API}/config/start", self._put_start)
        router.add_get("/ws", self._ws)
        router.add_get("/ws/raw", self._ws_raw)
        self._steps.add_to(router, API)
        return application

    # -- around every request --------------------------------------------------------------------------------------

    def _admit(self, request: web.Request) -> None:
        forbid_strangers(request, needs_certificate=self._needs_certificate)
        if not self._tokens.is_needed or request.path in OPEN:
            return
        token = bearer(request)
        if token is not None and self._tokens.is_full(token):
            return
        if token is not None and request.path.startswith(HOOKS) and self._tokens.is_hook(token):
            return
        if request.path == "/ws" and "Authorization" not in request.headers:
            return  # may send an auth frame
        raise Refused(401, "UNAUTHORIZED", "the token is missing or wrong")

    # -- views -----------------------------------------------------------------------------------------------------

    async def _health(self, _: web.Request) -> web.Response:
        return json_reply(self._api.health())

    async def _ready(self, _: web.Request) -> web.Response:
        is_ready = self._api.session.machine.is_ready
        return json_reply({"ready": is_ready}, status=200 if is_ready else 503)

    async def _livez(self, _: web.Request) -> web.Response:
        session = self._api.session
        return json_reply({"status": "alive", "uptime_secs": session.uptime, "pid": session.pid})

    async def _agent(self, _: web.Request) -> web.Response:
        return json_reply(self._api.agent())

    async def _status(self, _: web.Request) -> web.Response:
        return json_reply(self._api.status())

    async def _usage(self, _: web.Request) -> web.Response:
        return json_reply(self._api.usage())

    async def _screen(self, request: web.Request) -> web.Response:
        return json_reply(self._api.screen(cursor=flag(request, "cursor")))

    async def _screen_text(self, _: web.Request) -> web.Response:
        return web.Response(text="\n".join(self._api.session.screen.lines()))

    async def _output(self, request: web.Request) -> web.Response:
        limit = number(request, "limit", -1)
        offset = number(request, "offset", 0)
        return json_reply(self._api.output(offset, limit if limit >= 0 else None))

    async def _transcripts(self, _: web.Request) -> web.Response:
        return json_reply(self._api.transcripts())

    async def _transcript(self, request: web.Request) -> web.Response:
        text = request.match_info["number"]
        if not text.isdecimal():
            raise bad(f"there is no transcript {text!r}")
        content = self._api.transcript(int(text))
        if "text/plain" in request.headers.get("Accept", ""):
            name = f'attachment; filename="{text}.jsonl"'
            return web.Response(text=content, headers={"Content-Disposition": name})
        return json_reply({"number": int(text), "content": content})

    async def _catch_up(self, request: web.Request) -> web.Response:
        since = number(request, "since_transcript", 0), number(request, "since_line", 0)
        found = await asyncio.to_thread(self._api.catch_up, *since)  # logs may be large
        return json_reply(found)

    async def _events(self, request: web.Request) -> web.Response:
        since = number(request, "since_seq", 0), number(request, "since_hook_seq", 0)
        found = self._api.events(*since)
        if "since_message" in request.query:
            found["messages"] = self._api.messages(number(request, "since_message", 0))
        return json_reply(found)

    # -- steering --------------------------------------------------------------------------------------------------

    async def _nudge(self, request: web.Request) -> web.Response:
        return _reply(await self._api.nudge(decode(await request.read(), NudgeBody)))

    async def _respond(self, request: web.Request) -> web.Response:
        return _reply(await self._api.respond(decode(await request.read(), RespondBody)))

    async def _input(self, request: web.Request) -> web.Response:
        return json_reply(await self._api.type(decode(await request.read(), InputBody)))

    async def _input_raw(self, request: web.Request) -> web.Response:
        return json_reply(await self._api.type_raw(decode(await request.read(), RawBody)))

    async def _input_keys(self, request: web.Request) -> web.Response:
        return json_reply(await self._api.type_keys(decode(await request.read(), KeysBody)))

    async def _signal(self, request: web.Request) -> web.Response:
        return json_reply(self._api.signal(decode(await request.read(), SignalBody)))

    async def _resize(self, request: web.Request) -> web.Response:
        return json_reply(self._api.resize(decode(await request.read(), SizeBody)))

    async def _shutdown(self, _: web.Request) -> web.Response:
        return json_reply(self._api.shut_down())

    async def _restart(self, request: web.Request) -> web.Response:
        body = decode(await request.read(), RestartBody)
        return json_reply(self._api.restart(body), status=202)

    # -- hooks and gate --------------------------------------------------------------------------------------------

    async def _hook_event(self, request: web.Request) -> web.Response:
        payload = decode(await request.read(), dict[str, object])
        reply = await self._api.session.hook(request.match_info["event"], payload)
        headers = {RUN_SECONDS: str(reply.run_seconds)} if reply.run_seconds else {}
        return web.Response(text=reply.body, headers=headers)

    async def _hook_stop(self, request: web.Request) -> web.Response:
        data = decode(await request.read(), HookBody).data
        return _reply(await self._api.session.ask(lambda number: StopHookAsked(number, data)))

    async def _hook_start(self, request: web.Request) -> web.Response:
        data = decode(await request.read(), HookBody).data
        reply = await self._api.session.ask(lambda number: StartHookAsked(number, data))
        if ERROR in reply.body:
            return _reply(reply)
        return web.Response(text=str(reply.body.get("script", "")))

    async def _resolve(self, request: web.Request) -> web.Response:
        body = decode(await request.read(), dict[str, object])
        return _reply(await self._api.resolve(body))

    async def _get_stop(self, _: web.Request) -> web.Response:
        return json_reply(self._api.stop_config)

    async def _get_start(self, _: web.Request) -> web.Response:
        return json_reply(self._api.start_config)

    async def _put_stop(self, request: web.Request) -> web.Response:
        config = decode(await request.read(), dict[str, object])
        return _reply(await self._api.configure_stop(config))

    async def _put_start(self, request: web.Request) -> web.Response:
        config = decode(await request.read(), dict[str, object])
        return _reply(await self._api.configure_start(config))

    # -- WebSockets ------------------------------------------------------------------------------------------------

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        socket = _socket()
        await socket.prepare(request)
        access = streams.Access(
            is_granted=not self._tokens.is_needed or "Authorization" in request.headers,
            check=self._tokens.is_full,
        )
        await Listener(self._api, socket, verbs(self._api), access, request.query).run()
        return socket

    async def _ws_raw(self, request: web.Request) -> web.StreamResponse:
        size = SizeBody(number(request, "cols", 0), number(request, "rows", 0))
        if size != SizeBody(0, 0):
            self._api.resize(size)
        socket = _socket()
        await socket.prepare(request)
        await Attachment(self._api, socket).run()
        return socket


def _socket() -> web.WebSocketResponse:
    return web.WebSocketResponse(heartbeat=streams.HEARTBEAT_SECONDS, max_msg_size=MESSAGE_MOST)


def _reply(reply: ApiReply) -> web.Response:
    return json_reply(reply.body, status=reply.status)
