"""An API server of Kubernetes on loopback, with faults on demand.

Rule: answers in the shapes of the real one. Everything under /admin is for tests: faults, and what was asked so far.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.kube.store import KINDS, Key, Refused, Resource, Store, covers, selects

TOKEN = "test-token"


class Fault:
    """Something that goes wrong with the requests that it matches, `times` times or until it is removed."""

    def __init__(
        self,
        action: str,
        *,
        times: int | None = None,
        method: str = "",
        match: str = "",
        status: int = 503,
        seconds: float = 0.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if action not in ("down", "mute", "delay", "status"):
            raise ValueError(action)
        self.action = action
        """down: cut off; mute: carried out, then cut off; delay: later by `seconds`; status: refused with `status`."""
        self.times = times
        self.method, self.match = method, match
        self.status, self.seconds = status, seconds
        self.headers = dict(headers or {})

    def takes(self, request: web.Request) -> bool:
        """Whether this request is hit; counts."""
        if self.times == 0 or self.method not in ("", request.method):
            return False
        if self.match not in request.path_qs:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Server:
    """One API server: `start` it, and `close` it."""

    def __init__(self, *namespaces: str) -> None:
        self.store = Store(*namespaces)
        self.faults: list[Fault] = []
        self.requests: list[dict[str, Any]] = []
        """Method, path and time of each request to the API, oldest first."""
        self.token = TOKEN
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._news = asyncio.Event()
        self.store.on_change = self._changed

    async def start(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        """Listen on loopback."""
        app = web.Application()
        app.router.add_route("*", "/admin/{what}", self._admin)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        bound = self._runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{bound}"

    async def close(self) -> None:
        """Hang up on everybody."""
        if self._runner is not None:
            await self._runner.cleanup()

    def kubeconfig(self, path: Path, namespace: str = "default") -> Path:
        """Write a file with credentials for this server."""
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "test", "cluster": {"server": self.url}}],
                    "users": [{"name": "test", "user": {"token": self.token}}],
                    "contexts": [
                        {
                            "name": "test",
                            "context": {"cluster": "test", "user": "test", "namespace": namespace},
                        }
                    ],
                }
            )
        )
        return path

    # The API

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(
            {"method": request.method, "path": request.path_qs, "at": time.monotonic()}
        )
        is_muted = False
        for fault in [fault for fault in self.faults if fault.takes(request)]:
            match fault.action:
                case "down":
                    return _cut(request)
                case "delay":
                    await asyncio.sleep(fault.seconds)
                case "status":
                    refused = Refused(fault.status, "InjectedFault", "a fault of the test")
                    return web.json_response(
                        refused.status, status=fault.status, headers=fault.headers
                    )
                case _:
                    is_muted = True
        try:
            if request.headers.get("Authorization", "") != f"Bearer {self.token}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            reply = await self._answer(request)
        except Refused as refused:
            reply = web.json_response(refused.status, status=refused.code)
        return _cut(request) if is_muted else reply

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.2"})
        key = _key(request.path)
        if request.method == "GET" and not key.name and request.query.get("watch") in ("1", "true"):
            return await self._watch(request, key)
        body = await request.json() if request.can_read_body else {}
        is_patch = request.content_type == "application/merge-patch+json"
        match request.method, bool(key.name):
            case "GET", True:
                answer = self.store.get(key)
            case "GET", False:
                answer = self.store.list(key, request.query)
            case "POST", False:
                answer = self.store.create(key, body)
            case "PUT", True:
                answer = self.store.replace(key, body)
            case "PATCH", True if is_patch:
                answer = self.store.patch(key, body)
            case "DELETE", True:
                answer = self.store.delete(key)
            case _:
                raise Refused(
                    405,
                    "MethodNotAllowed",
                    "the server does not allow this method on the requested resource",
                )
        return web.json_response(answer, status=201 if request.method == "POST" else 200)

    async def _watch(self, request: web.Request, key: Key) -> web.StreamResponse:
        query = request.query
        end = time.monotonic() + float(query.get("timeoutSeconds", "1800"))
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)

        async def say(type_: str, what: dict[str, Any]) -> None:
            await stream.write(json.dumps({"type": type_, "object": what}).encode() + b"\n")

        since = int(query.get("resourceVersion") or 0)
        if since and since < self.store.oldest:
            message = f"too old resource version: {since} ({self.store.version})"
            await say("ERROR", Refused(410, "Expired", message).status)
            return stream
        if not since:
            since = self.store.version
            for found in self.store.list(key, query)["items"]:
                await say("ADDED", found)
        while True:
            news = self._news
            for change in [change for change in self.store.changes if change.version > since]:
                since = change.version
                if covers(key, change.key) and selects(change.object, query):
                    await say(change.type, change.object)
            left = end - time.monotonic()
            try:
                async with asyncio.timeout(left):
                    await news.wait()
            except TimeoutError:
                break
        if query.get("allowWatchBookmarks") == "true":
            bookmark = {
                "apiVersion": key.resource.api_version,
                "kind": KINDS[key.resource],
                "metadata": {"resourceVersion": str(self.store.version)},
            }
            await say("BOOKMARK", bookmark)
        return stream

    def _changed(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # For tests

    async def _admin(self, request: web.Request) -> web.Response:
        match request.match_info["what"], request.method:
            case "faults", "POST":
                self.faults.append(Fault(**await request.json()))
            case "faults", "DELETE":
                self.faults.clear()
            case "requests", "GET":
                return web.json_response(self.requests)
            case "requests", "DELETE":
                self.requests.clear()
            case _:
                raise web.HTTPNotFound
        return web.json_response({})


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _key(path: str) -> Key:
    parts = path.strip("/").split("/")
    if parts[0] == "api":
        group, rest = "", parts[1:]
    elif parts[0] == "apis" and len(parts) > 1:
        group, rest = parts[1], parts[2:]
    else:
        rest, group = [], ""
    version, *rest = rest or [""]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        _, namespace, *rest = rest
    plural, name = ([*rest, "", ""])[:2]
    resource = Resource(group, version, plural)
    if resource not in KINDS or len(rest) > 2:
        raise Refused(404, "NotFound", "the server could not find the requested resource")
    return Key(resource, namespace, name)
