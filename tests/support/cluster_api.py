"""The API server of a cluster as `oj daemon connect` meets it: a few objects to read, and a port-forward to a real port.

Rule: read-only, over plain HTTP on loopback from a thread of this process. Objects are kept as the API sends them; whatever is
not there is a 404, and a path can be forbidden.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.support.kube import portforward

Object = dict[str, Any]


class ClusterApi:
    """Listens from a thread; `forward_to` is the port behind every pod's port 7777, 0 for a pod that refuses."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        """By path."""
        self.forbidden: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        """Path and Authorization of every request."""
        self.forward_to = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._runner: web.AppRunner | None = None

    def start(self) -> ClusterApi:
        """Listen; returns itself."""
        self._thread.start()
        self._run(self._start())
        return self

    def close(self) -> None:
        """Stop listening and end the thread."""
        if self._runner is not None:
            self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig for it, with one context called `test`."""
        path = folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "me"}}],
            "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "me", "user": {"token": "of-the-cluster"}}],
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def _run(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, request.headers.get("Authorization", "")))
        if request.path in self.forbidden:
            return _status(403, "Forbidden")
        if request.path.endswith("/portforward"):
            return await portforward.forward(request, "127.0.0.1", self.forward_to)
        if request.path not in self.objects:
            return _status(404, "NotFound")
        return web.json_response(self.objects[request.path])


def _status(code: int, reason: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}  # fmt: skip
    return web.json_response(body, status=code)
