"""The endpoints of shell steps (`/api/v1/exec`).

Rule: shapes only; runs are kept by exec.py. An id with a slash is written `%2F` in a path.
"""

from __future__ import annotations

import base64
from collections.abc import Coroutine
from typing import Final, Protocol, TypeVar

import msgspec
from aiohttp import web

from oj_daemon.sidecar.bodies import EndBody, Refused, decode
from oj_daemon.sidecar.exec import ExecRequest, Execs
from oj_daemon.sidecar.replies import flag, json_reply, number

T = TypeVar("T")

WAIT_MOST_MS: Final = 60_000
"""Longest wait for a change in one request: whoever waits longer asks again, and both sides know that the other lives."""


class Host(Protocol):
    """The program that the steps run in."""

    @property
    def is_stopping(self) -> bool:
        """It ends, and starts nothing more."""
        ...

    async def through(self, work: Coroutine[object, object, T]) -> T:
        """The result of something that is carried through whoever goes away."""
        ...


class Steps:
    """The endpoints around the runs of one sidecar."""

    def __init__(self, host: Host, execs: Execs) -> None:
        self._host = host
        self._execs = execs

    def add_to(self, router: web.UrlDispatcher, base: str) -> None:
        """Register them."""
        router.add_get(f"{base}/exec", self._list)
        router.add_post(f"{base}/exec", self._start)
        router.add_get(f"{base}/exec/{{id}}", self._view)
        router.add_delete(f"{base}/exec/{{id}}", self._forget)
        router.add_get(f"{base}/exec/{{id}}/output", self._output)
        router.add_post(f"{base}/exec/{{id}}/end", self._end)

    async def _start(self, request: web.Request) -> web.Response:
        wanted = decode(await request.read(), ExecRequest)
        if self._host.is_stopping:
            raise Refused(503, "STOPPING", "the sidecar is ending")
        view = self._execs.start(wanted)
        return json_reply(msgspec.to_builtins(view), status=201 if view.created else 200)

    async def _list(self, _: web.Request) -> web.Response:
        return json_reply({"runs": msgspec.to_builtins(self._execs.list())})

    async def _view(self, request: web.Request) -> web.Response:
        run_id = request.match_info["id"]
        wait_ms = _wait_ms(request)
        view = (
            await self._execs.wait(run_id, wait_ms / 1000) if wait_ms else self._execs.view(run_id)
        )
        return json_reply(msgspec.to_builtins(view))

    async def _end(self, request: web.Request) -> web.Response:
        body = decode(await request.read(), EndBody)
        ending = self._execs.end(request.match_info["id"], body.grace_ms / 1000)
        view = await self._host.through(ending)
        return json_reply(msgspec.to_builtins(view))

    async def _forget(self, request: web.Request) -> web.Response:
        self._execs.forget(request.match_info["id"])
        return json_reply({"forgotten": True})

    async def _output(self, request: web.Request) -> web.StreamResponse:
        run_id, offset = request.match_info["id"], number(request, "offset", 0)
        if flag(request, "follow"):
            return await self._follow(request, run_id, offset)
        limit = number(request, "limit", -1)
        if wait_ms := _wait_ms(request):
            await self._execs.grown(run_id, offset, wait_ms / 1000)
        # The state first: when it says that the run is over, the size is final.
        view = self._execs.view(run_id)
        data = self._execs.output(run_id, offset, limit if limit >= 0 else None)
        return json_reply(
            {
                "data": base64.b64encode(data).decode(),
                "offset": offset,
                "next_offset": offset + len(data),
                "total_written": view.output_size,
                "state": view.state,
                "status": view.status,
            }
        )

    async def _follow(self, request: web.Request, run_id: str, offset: int) -> web.StreamResponse:
        """The output as it comes, until the run is over. The status is fetched afterwards."""
        self._execs.view(run_id)  # there is one
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        while True:
            is_over = self._execs.view(run_id).state != "running"
            while data := self._execs.output(run_id, offset):
                offset += len(data)
                await response.write(data)
            if is_over:
                break
            await self._execs.grown(run_id, offset, WAIT_MOST_MS / 1000)
        await response.write_eof()
        return response


def _wait_ms(request: web.Request) -> int:
    return min(number(request, "wait_ms", 0), WAIT_MOST_MS)
