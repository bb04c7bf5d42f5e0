"""The frames that clients send on a WebSocket, each with the meaning of an endpoint.

Rule: a table from the name of a frame to a deed of the API. A refusal becomes an error frame; the connection stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from oj_daemon.drivers.base import Json
from oj_daemon.errors import OjError
from oj_daemon.sidecar.api import Api
from oj_daemon.sidecar.bodies import (
    STATUS,
    InputBody,
    KeysBody,
    NudgeBody,
    NumberBody,
    RawBody,
    Refused,
    RespondBody,
    RestartBody,
    SignalBody,
    SinceBody,
    SizeBody,
    convert,
    json_object,
)
from oj_daemon.sidecar.frames import Shape
from oj_daemon.sidecar.values import ApiReply

ERROR: Final = "error"
Verb = Callable[[Json], Awaitable[Shape]]
Deed = Callable[[Json], object]


def verbs(api: Api) -> Mapping[str, Verb]:
    """All frames but those that belong to the connection itself."""

    def transcript(frame: Json) -> Shape:
        number = convert(frame, NumberBody).number
        return {"number": number, "content": api.transcript(number)}

    def caught(frame: Json) -> Shape:
        since = convert(frame, SinceBody)
        return api.catch_up(since.since_transcript, since.since_line)

    def put_start(frame: Json) -> Awaitable[ApiReply]:
        return api.configure_start(json_object(frame.get("config")))

    table: dict[str, tuple[str, Deed]] = {
        "health:get": ("health", lambda _: api.health()),
        "ready:get": ("ready", lambda _: {"ready": api.session.machine.is_ready}),
        "agent:get": ("agent", lambda _: api.agent()),
        "status:get": ("status", lambda _: api.status()),
        "usage:get": ("usage", lambda _: api.usage()),
        "screen:get": ("screen", lambda f: api.screen(cursor=f.get("cursor") is True)),
        "input:send": ("input:sent", lambda f: api.type(convert(f, InputBody))),
        "input:send:raw": ("input:sent", lambda f: api.type_raw(convert(f, RawBody))),
        "keys:send": ("input:sent", lambda f: api.type_keys(convert(f, KeysBody))),
        "resize": ("resized", lambda f: api.resize(convert(f, SizeBody))),
        "signal:send": ("signal:sent", lambda f: api.signal(convert(f, SignalBody))),
        "nudge": ("nudged", lambda f: api.nudge(convert(f, NudgeBody))),
        "respond": ("response", lambda f: api.respond(convert(f, RespondBody))),
        "stop:resolve": ("stop:resolved", lambda f: api.resolve(json_object(f.get("body", {})))),
        "shutdown": ("shutdown", lambda _: api.shut_down()),
        "transcript:list": ("transcript:list", lambda _: api.transcripts()),
        "transcript:get": ("transcript:content", transcript),
        "transcript:catchup": ("transcript:catchup", caught),
        "stop:config:get": ("stop:config", lambda _: {"config": api.stop_config}),
        "config:start:get": ("start:config", lambda _: {"config": api.start_config}),
        "stop:config:put": (
            "stop:configured",
            lambda f: api.configure_stop(json_object(f.get("config"))),
        ),
        "config:start:put": ("start:configured", put_start),
        "config:put:get": ("start:configured", put_start),
        "session:restart": ("session:restarted", lambda f: api.restart(convert(f, RestartBody))),
    }
    return {name: _verb(event, deed) for name, (event, deed) in table.items()}


def _verb(event: str, deed: Deed) -> Verb:
    async def verb(frame: Json) -> Shape:
        try:
            done = deed(frame)
            result = await done if isinstance(done, Awaitable) else done
        except Refused as error:
            return error_frame(error.code, error.message)
        except OjError as error:
            return error_frame(STATUS.get(error.code, (500, "INTERNAL"))[1], error.message)
        if isinstance(result, ApiReply):
            return _as_frame(event, result)
        return {"event": event, **json_object(result)}

    return verb


def error_frame(code: str, message: str) -> Shape:
    """A refusal as a frame."""
    return {"event": "error", "code": code, "message": message}


def _as_frame(event: str, reply: ApiReply) -> Shape:
    error = reply.body.get(ERROR)
    if isinstance(error, Mapping):
        return {"event": "error", **error}
    if isinstance(error, str):
        return error_frame("REJECTED", error)
    return {"event": event, **reply.body}
