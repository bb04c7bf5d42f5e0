"""An API server of Kubernetes on loopback, with faults on demand.

Rule: answers in the shapes of the real one. Everything under /admin is for tests: faults, and what was asked so far.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.kube import access, portforward
from tests.support.kube.quota import Quota
from tests.support.kube.store import (
    KINDS,
    PODS,
    Key,
    Object,
    Refused,
    Resource,
    Store,
    covers,
    merge,
    selects,
)

TOKEN = "test-token"
BOOKMARK_SECONDS = 60.0
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_REFUSALS = {
    429: ("TooManyRequests", "Too many requests, please try again later."),
    500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
}
"""What the real server says with a status."""


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
        if action not in ("down", "mute", "delay", "status", "forbidden", "silent"):
            raise ValueError(action)
        self.action = action
        """down: cut off; mute: carried out, then cut off; delay: later by `seconds`; status: refused with `status`;
        forbidden: by the Role; silent: watches, open ones too, say nothing until it is removed, and then everything."""
        self.times = times
        self.method, self.match = method, match
        self.status, self.seconds = status, seconds
        self.headers = dict(headers or {})

    def takes(self, request: web.Request) -> bool:
        """Whether this request is hit; counts."""
        if self.times == 0 or self.method not in ("", request.method) or self.action == "silent":
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
        self.lines: deque[dict[str, Any]] = deque(maxlen=20_000)
        """Type, name and time of each line that a watch was sent, oldest first."""
        self.quotas: dict[str, Quota] = {}
        self.control: Callable[[Object], Awaitable[object]] | None = None
        """What the kubelet does on demand."""
        self.read_log: Callable[[Key, Mapping[str, str]], str] | None = None
        self.token = TOKEN
        self.url = ""
        self.admin_url = ""
        """Answers also when the API is down."""
        self.ca = Path()
        self.port_for_pods = 0
        """Of the TLS listener that pods with a service account are told; 0: they have none."""
        self._site: web.TCPSite | None = None
        self._tls: ssl.SSLContext | None = None
        self._watches: list[web.Request] = []
        self._expiries = 0
        self._runner: web.AppRunner | None = None
        self._news = asyncio.Event()
        self.store.listeners.append(self._changed)

    async def start(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        """Listen on loopback."""
        app = web.Application()
        app.router.add_route("*", "/admin/{what}", self._admin)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self._tls = tls
        await self._listen(port)
        bound = self._runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{bound}"
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.admin_url = f"http://127.0.0.1:{self._runner.addresses[1][1]}"

    async def open_to_pods(self, folder: Path) -> None:
        """Listen over TLS as well, as pods expect it, and write the certificate of the authority for them."""
        import trustme  # noqa: PLC0415 - most tests reach it by their kubeconfig

        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.ca = folder / "ca.crt"
        authority.cert_pem.write_to_path(str(self.ca))
        assert self._runner is not None
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port_for_pods = int(self._runner.addresses[2][1])

    async def _listen(self, port: int) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self._tls)
        await self._site.start()

    async def down(self) -> None:
        """Refuse connections, and break those that there are, until `up`."""
        assert self._runner is not None
        if self._site is not None:
            await self._site.stop()
            self._site = None
        for connection in self._runner.server.connections if self._runner.server else ():
            transport = connection.transport
            if transport and transport.get_extra_info("sockname")[1] == self._port:
                transport.abort()

    async def up(self) -> None:
        """Answer again."""
        if self._site is None:
            await self._listen(self._port)

    @property
    def _port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def drop_watches(self, match: str = "") -> None:
        """Break the watches that are open."""
        for request in [each for each in self._watches if match in each.path_qs]:
            if request.transport is not None:
                request.transport.abort()

    def expire(self, *, is_told: bool = True) -> None:
        """Versions so far are too old from now on; open watches are told if they are to be."""
        self.store.expire()
        self._expiries += is_told
        self._changed()

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
                    reason, text = _REFUSALS.get(
                        fault.status, ("InjectedFault", "a fault of the test")
                    )
                    refused = Refused(fault.status, reason, text)
                    return web.json_response(
                        refused.status, status=fault.status, headers=fault.headers
                    )
                case "forbidden":
                    refused = _forbidden(request)
                    return web.json_response(refused.status, status=403)
                case _:
                    is_muted = True
        try:
            self._let_in(request)
            reply = await self._answer(request)
        except Refused as refused:
            reply = web.json_response(refused.status, status=refused.code)
        return _cut(request) if is_muted else reply

    def _let_in(self, request: web.Request) -> None:
        said = request.headers.get("Authorization", "")
        if said == f"Bearer {self.token}":
            return
        who = access.account_of(said, self.token)
        if who is None:
            raise Refused(401, "Unauthorized", "Unauthorized")
        key, part = _key(request.path)
        if not access.may(self.store, who, _verb(request, key), key, part):
            raise _forbidden(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.2"})
        if request.path == REVIEWS and request.method == "POST":
            return web.json_response(access.review(self.store, await request.json()), status=201)
        key, part = _key(request.path)
        if part:
            return await self._answer_for_pod(request, key, part)
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
                if key.resource == PODS:
                    self._admit(key, body)
                answer = self.store.create(key, body)
            case "PUT", True:
                answer = self.store.replace(key, body)
            case "PATCH", True if is_patch:
                answer = self.store.patch(key, body)
            case "DELETE", True:
                answer = self.store.delete(key, {**request.query, **body})
            case _:
                raise Refused(
                    405,
                    "MethodNotAllowed",
                    "the server does not allow this method on the requested resource",
                )
        return web.json_response(answer, status=201 if request.method == "POST" else 200)

    async def _answer_for_pod(
        self, request: web.Request, key: Key, part: str
    ) -> web.StreamResponse:
        pod = self.store.get(key)
        match request.method, part:
            case "GET", "log":
                log = self.read_log(key, request.query) if self.read_log is not None else ""
                return web.Response(text=log, content_type="text/plain")
            case "GET", "portforward":
                host, port = pod["status"].get("podIP", ""), int(request.query["ports"])
                return await portforward.forward(request, host, port)
            case _:
                raise Refused(404, "NotFound", "the server could not find the requested resource")

    async def _watch(self, request: web.Request, key: Key) -> web.StreamResponse:
        query = request.query
        end = time.monotonic() + float(query.get("timeoutSeconds", "1800"))
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)

        self._watches.append(request)
        try:
            await self._follow(request, key, stream, end)
        finally:
            self._watches.remove(request)
        return stream

    async def _follow(
        self, request: web.Request, key: Key, stream: web.StreamResponse, end: float
    ) -> None:
        query = request.query

        async def say(type_: str, what: dict[str, Any]) -> None:
            while self._is_silent(request):  # noqa: ASYNC110 - faults are a plain list, which tests change
                await asyncio.sleep(0.02)
            line = json.dumps({"type": type_, "object": what}).encode() + b"\n"
            name = (what.get("metadata") or {}).get("name", "")
            self.lines.append({"type": type_, "name": name, "at": time.monotonic()})
            await stream.write(line)

        since = int(query.get("resourceVersion") or 0)
        if not since:
            since = self.store.version
            for found in self.store.list(key, query)["items"]:
                await say("ADDED", found)
        expiries = self._expiries
        while True:
            news = self._news
            if since < self.store.oldest or expiries != self._expiries:
                message = f"too old resource version: {since} ({self.store.version})"
                await say("ERROR", Refused(410, "Expired", message).status)
                return
            for change in self.store.since(since):
                since = change.version
                if covers(key, change.key) and selects(change.object, query):
                    await say(change.type, change.object)
            if await _is_set(news, min(end - time.monotonic(), BOOKMARK_SECONDS)):
                continue
            if query.get("allowWatchBookmarks") == "true":
                await say("BOOKMARK", _bookmark(key, since))
            if time.monotonic() >= end:
                return

    def _is_silent(self, request: web.Request) -> bool:
        return any(
            each.action == "silent" and each.match in request.path_qs for each in self.faults
        )

    def _admit(self, key: Key, pod: Object) -> None:
        # Copies of all pods, which are many: without a quota each would cost more than the one before.
        there = self.store.list(key, {})["items"] if self.quotas else ()
        for quota in self.quotas.values():
            quota.check(pod, there)

    def _changed(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # For tests

    async def _admin(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        what, is_undone = request.match_info["what"], request.method == "DELETE"
        match what:
            case "requests" if request.method == "GET":
                return web.json_response(self.requests)
            case "requests":
                self.requests.clear()
            case "lines":
                return web.json_response(list(self.lines))
            case "status":
                key = Key(PODS, body["namespace"], body["name"])
                uid = self.store.get(key)["metadata"]["uid"]
                self.store.update(key, uid, lambda pod: merge(pod["status"], body["status"]))
            case "faults" if is_undone:
                self.faults.clear()
            case "faults":
                self.faults.append(Fault(**body))
            case "quota" if is_undone:
                self.quotas.clear()
            case "quota":
                self.quotas[body["name"]] = Quota(**body)
            case "kubelet" if self.control is not None:
                try:
                    return web.json_response(await self.control(body))
                except (LookupError, ValueError) as error:
                    return web.json_response({"error": repr(error)}, status=400)
            case _:
                await self._happen(what, body)
        return web.json_response({})

    async def _happen(self, what: str, given: Object) -> None:
        match what:
            case "down":
                await self.down()
            case "up":
                await self.up()
            case "drop-watches":
                self.drop_watches(**given)
            case "expire":
                self.expire(**given)
            case _:
                raise web.HTTPNotFound


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Whether it was set in time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


def _bookmark(key: Key, version: int) -> Object:
    return {
        "apiVersion": key.resource.api_version,
        "kind": KINDS[key.resource],
        "metadata": {"resourceVersion": str(version)},
    }


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _forbidden(request: web.Request) -> Refused:
    """What the real server says when the Role does not allow something."""
    key, _ = _key(request.path)
    verb = _verb(request, key)
    plural, group, namespace = key.resource.plural, key.resource.group, key.namespace
    name = f' "{key.name}"' if key.name else ""
    details = {
        "kind": plural,
        **({"group": group} if group else {}),
        **({"name": key.name} if key.name else {}),
    }
    message = (
        f'{plural}{"." + group if group else ""}{name} is forbidden: User "system:serviceaccount:{namespace}:oj-daemon" '
        f'cannot {verb} resource "{plural}" in API group "{group}" in the namespace "{namespace}"'
    )
    return Refused(403, "Forbidden", message, details)


def _verb(request: web.Request, key: Key) -> str:
    is_watch = request.query.get("watch") in ("1", "true")
    read = "get" if key.name else "watch" if is_watch else "list"
    changes = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    return changes.get(request.method, read)


def _key(path: str) -> tuple[Key, str]:
    """What a path names, and which part of it (pods/log)."""
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
    plural, name, part = ([*rest, "", "", ""])[:3]
    resource = Resource(group, version, plural)
    if resource not in KINDS or len(rest) > 3:
        raise Refused(404, "NotFound", "the server could not find the requested resource")
    return Key(resource, namespace, name), part
