"""The API of a place: probes, steps, files, and the way to the agents in it.

Rule: probes are open to everybody; all else needs the token, and a client certificate where there is a CA for those. There are no
frames of authentication here: a WebSocket shows its token like every request.
"""

from __future__ import annotations

from typing import Final, Protocol

from aiohttp import web

from oj_daemon.sidecar.admission import API, OPEN, Tokens, bearer, forbid_strangers, guarded
from oj_daemon.sidecar.bodies import Refused
from oj_daemon.sidecar.files import Files
from oj_daemon.sidecar.relay import Relay
from oj_daemon.sidecar.replies import json_reply
from oj_daemon.sidecar.steps import Host, Steps

BODY_MOST: Final = 8 * 1024 * 1024
"""Of what is read as a whole: a script with its environment."""


class Life(Host, Protocol):
    """The program around it."""

    def health(self) -> dict[str, object]:
        """What probes and the daemon are told."""
        ...

    def end(self) -> None:
        """Begin the end."""
        ...


class PlaceServer:
    """Routes and admission."""

    def __init__(
        self,
        life: Life,
        parts: tuple[Steps, Files, Relay],
        tokens: Tokens,
        *,
        needs_certificate: bool,
    ) -> None:
        self._life = life
        self._parts = parts
        self._tokens = tokens
        self._needs_certificate = needs_certificate

    def application(self) -> web.Application:
        """All routes."""
        application = web.Application(middlewares=[guarded(self._admit)], client_max_size=BODY_MOST)
        router = application.router
        router.add_get(f"{API}/health", self._health)
        router.add_get(f"{API}/livez", self._health)
        router.add_get(f"{API}/ready", self._ready)
        router.add_post(f"{API}/shutdown", self._shutdown)
        steps, files, relay = self._parts
        steps.add_to(router, API)
        files.add_to(router, API)
        relay.add_to(router)
        return application

    def _admit(self, request: web.Request) -> None:
        forbid_strangers(request, needs_certificate=self._needs_certificate)
        if not self._tokens.is_needed or request.path in OPEN:
            return
        token = bearer(request)
        if token is None or not self._tokens.is_full(token):
            raise Refused(401, "UNAUTHORIZED", "the token is missing or wrong")

    async def _health(self, _: web.Request) -> web.Response:
        return json_reply(self._life.health())

    async def _ready(self, _: web.Request) -> web.Response:
        is_ready = not self._life.is_stopping
        return json_reply({"ready": is_ready}, status=200 if is_ready else 503)

    async def _shutdown(self, _: web.Request) -> web.Response:
        self._life.end()
        return json_reply({"accepted": True})
