"""A scheduler and a kubelet for the test API server: pods become local processes.

Rule: what is written to the API has the shapes of the recorded objects. Processes run as root in mount and PID namespaces of
their own on the machine's network, each pod at an address of its own in 127.0.0.0/8; sidecars are told to listen there instead
of 0.0.0.0. Restart policies other than Never are treated as Never.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.kube import shapes
from tests.support.kube.container import unsupported
from tests.support.kube.podrun import PodRun
from tests.support.kube.rules import Rules
from tests.support.kube.server import Server
from tests.support.kube.store import EVENTS, PODS, SECRETS, Key, Object, Refused

ROOT = Path(__file__).resolve().parents[3]
ENTRY_POINT = (sys.executable, "-P", "-m", "oj_daemon.sidecar.main")
"""Of every image."""
PORT = 8080
HAPPENINGS = (
    "evict",
    "oom",
    "kill",
    "preempt",
    "lose_node",
    "remove_node",
    "move",
    "cut",
    "freeze",
    "thaw",
)
"""Methods of a pod that tests may call."""


class Kubelet:
    """One node; `start` it, and `close` it."""

    def __init__(
        self,
        server: Server,
        folder: Path,
        *,
        shared: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        is_direct: bool = False,
        entry_point: Sequence[str] = ENTRY_POINT,
    ) -> None:
        if reason := unsupported():
            raise RuntimeError(reason)
        self.server, self.store, self.folder = server, server.store, folder
        self.shared = _apart([ROOT, Path(sys.prefix), Path(sys.base_prefix), *shared])
        """What pods see where it is, whatever they mount above it."""
        self.env = {**image_env(), **(env or {})}
        """What every image sets."""
        self.entry_point = tuple(entry_point)
        self.is_direct = is_direct
        """Pods listen at their address themselves, which then cannot move: cheaper."""
        self.rules = Rules()
        self.pods: dict[str, PodRun] = {}
        """By UID."""
        self.claims = folder / "claims"
        self._news = asyncio.Event()
        self._seen = 0
        self._tasks: set[asyncio.Task[object]] = set()
        self._net = random.SystemRandom().randrange(16, 240), random.SystemRandom().randrange(256)
        self._given = 0

    async def start(self) -> None:
        """Take care of pods from now on."""
        import aiohttp  # noqa: PLC0415 - a test that has no kubelet does not need it

        self.folder.mkdir(parents=True, exist_ok=True)
        self.claims.mkdir(exist_ok=True)
        self.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=False, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self.server.control = self.control
        self.server.read_log = self.read_log
        self.store.listeners.append(self._news.set)
        self._seen = self.store.version
        for pod in self.store.list(Key(PODS, ""), {})["items"]:
            self._notice(pod)
        self.spawn(self._run())

    async def close(self) -> None:
        """End all pods at once, and remove what they had."""
        self.store.listeners.remove(self._news.set)
        self.server.control = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*list(self._tasks), return_exceptions=True)
        await asyncio.gather(*(pod.vanish() for pod in self.pods.values()))
        self.pods.clear()
        await self.http.close()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    def spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Run something beside; what goes wrong in it is said on stderr."""
        task: asyncio.Task[object] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            loop = asyncio.get_running_loop()
            loop.call_exception_handler(
                {"message": "test kubelet", "exception": error, "task": task}
            )

    # -- what pods need ---------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Object | None:
        """An object, None when there is none."""
        with contextlib.suppress(Refused):
            return self.store.get(key)
        return None

    def secret(self, namespace: str, name: str) -> Object | None:
        """A Secret, None when there is none."""
        return self.get(Key(SECRETS, namespace, name))

    def note(self, pod: Object, type_: str, reason: str, message: str, **more: str) -> None:
        """Write an Event."""
        made = shapes.event(pod, type_, reason, message, **more)
        self.store.create(Key(EVENTS, pod["metadata"]["namespace"]), made)

    def address(self) -> str:
        """An address of 127.0.0.0/8 at which nobody listens."""
        while True:
            self._given += 1
            first, second = self._net
            second = (second + self._given // 254) % 256
            found = f"127.{first}.{second}.{self._given % 254 + 1}"
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((found, PORT))
                return found

    def read_log(self, key: Key, query: Mapping[str, str]) -> str:
        """Lines of a container's log; Refused when there is none."""
        uid = self.store.get(key)["metadata"]["uid"]
        if uid not in self.pods:
            raise Refused(400, "BadRequest", f'pod "{key.name}" is not on a node yet')
        return self.pods[uid].read_log(query)

    # -- the watch --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            changes = self.store.since(self._seen)
            self._seen = self.store.version
            for change in changes:
                if change.key.resource != PODS:
                    continue
                if change.type == "DELETED":
                    gone = self.pods.pop(change.object["metadata"]["uid"], None)
                    if gone is not None:
                        self.spawn(gone.vanish())
                else:
                    self._notice(change.object)
            self.rules.changed()  # Secrets and gates are waited for in the same way

    def _notice(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        found = self.pods.get(uid)
        if found is None:
            if self.get(Key(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])) is None:
                return
            found = self.pods[uid] = PodRun(self, pod)
            found.begin()
        found.notice(pod)

    # -- what tests let happen --------------------------------------------------------------------------------------

    def find(self, name: str) -> PodRun:
        """The pod of that name; LookupError when none is there."""
        for found in self.pods.values():
            there = self.get(found.key) if found.key.name == name else None
            if there is not None and there["metadata"]["uid"] == found.uid:
                return found
        raise LookupError(
            f"no pod {name}; there are {[each.key.name for each in self.pods.values()]}"
        )

    async def control(self, wanted: Object) -> object:
        """Let something happen: `do` says what, see the methods of `Cluster` in process.py."""
        given = dict(wanted)
        match given.pop("do"):
            case "rule":
                self.rules.add(**given)
            case "lift":
                self.rules.lift(**given)
            case "recreate":
                return await self.recreate(**given)
            case "delete":
                name, options = given.pop("name"), given
                return self.store.delete(self.find(name).key, options)
            case "pids":
                return {each.key.name: each.pids() for each in self.pods.values()}
            case what if what in HAPPENINGS:
                name = given.pop("name")
                return await getattr(self.find(name), what)(**given) or {}
            case what:
                raise ValueError(what)
        return {}

    async def recreate(self, name: str, *, keeps_secrets: bool = True) -> Object:
        """The same pod anew, as somebody else might: another UID under the same name."""
        key = self.find(name).key
        before = self.store.get(key)
        uid, metadata = before["metadata"]["uid"], _plain(before)
        owned = [
            each
            for each in self.store.list(Key(SECRETS, key.namespace), {})["items"]
            if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences") or ())
        ]
        self.store.delete(key, {"gracePeriodSeconds": 0})
        made = self.store.create(
            key._replace(name=""), {"metadata": metadata, "spec": before["spec"]}
        )
        for secret in owned if keeps_secrets else ():
            owners = secret["metadata"]["ownerReferences"]
            theirs = [{**owner, "uid": made["metadata"]["uid"]} for owner in owners]
            kept = {**_plain(secret), "ownerReferences": theirs}
            self.store.create(Key(SECRETS, key.namespace), {**secret, "metadata": kept})
        return made


def _plain(found: Object) -> Object:
    """Metadata of a copy."""
    kept = ("name", "labels", "annotations")
    return {each: found["metadata"][each] for each in kept if each in found["metadata"]}


def image_env() -> dict[str, str]:
    """Variables of an image that has this `oj`, the scripted agent as `claude`, and git."""
    here = (Path(sys.executable).parent, ROOT / "tests" / "support" / "agent")
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    marks = {name: value for name, value in os.environ.items() if name.startswith("OJ_TEST_")}
    return {**marks, "PATH": ":".join((*map(str, here), system)), "LANG": "C.UTF-8"}


def _apart(paths: Sequence[Path]) -> list[Path]:
    """Without those that lie in another."""
    found = sorted({Path(os.path.realpath(each)) for each in paths})
    return [each for each in found if not any(other in each.parents for other in found)]
