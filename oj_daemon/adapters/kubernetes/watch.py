"""All pods of this daemon, as one list and one watch keep them: nothing asks for pods one by one.

Rule: what the cache says may be old, and says so (`age`); that it is old is never a reason to call a pod gone. A watch that
ends, goes silent or has been forgotten by the API server is begun anew with a list, after a pause that grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from oj_daemon.adapters.kubernetes.api import Kube, KubeError
from oj_daemon.adapters.kubernetes.diagnose import diagnose_missing, diagnose_pod, read_line
from oj_daemon.adapters.kubernetes.diagnosis import Diagnosis, Kind, as_number
from oj_daemon.adapters.kubernetes.pod import INSTANCE

logger = logging.getLogger(__name__)

Object = dict[str, Any]

WATCH_SECONDS: Final = 240
"""After which the server ends a watch: what it forgot to tell us is found by the list that follows."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
SHORT_SECONDS: Final = 1.0
"""A watch that did not last longer is no reason to ask again at once."""
OVERDUE_SECONDS: Final = 30.0
"""How much longer than its grace a pod may take to end."""
NO_ANSWER: Final = "the API server cannot be asked"
MOST_GONE: Final = 2000
"""Of how many pods that are over it is known why; of older ones, that they are."""


class Seen(NamedTuple):
    """A pod and what is the matter with it."""

    pod: Object
    diagnosis: Diagnosis
    gone_by: float = math.inf
    """When its grace is over, if it is being deleted, by the clock of this process."""

    @property
    def uid(self) -> str:
        """Of the pod; another one under the same name is another pod."""
        return str(self.pod["metadata"]["uid"])

    @property
    def address(self) -> str:
        """Its IP, as far as it has one."""
        return str((self.pod.get("status") or {}).get("podIP") or "")

    @property
    def is_overdue(self) -> bool:
        """It should have ended long ago: its node is lost, and does not come back to end it."""
        return not self.diagnosis.is_final and time.monotonic() > self.gone_by + OVERDUE_SECONDS

    @property
    def is_ready(self) -> bool:
        """Its sidecar answers."""
        conditions = (self.pod.get("status") or {}).get("conditions") or ()
        ready = any(
            each.get("type") == "Ready" and each.get("status") == "True" for each in conditions
        )
        return (
            ready
            and not self.diagnosis.is_final
            and not self.pod["metadata"].get("deletionTimestamp")
        )


class PodCache:
    """The pods of one instance; `run` keeps them fresh."""

    def __init__(self, kube: Kube, instance: str) -> None:
        self._kube = kube
        self._selector = f"{INSTANCE}={instance}"
        self._path = f"/api/v1/namespaces/{kube.namespace}/pods"
        self._pods: dict[str, Seen] = {}
        self._gone: dict[str, Diagnosis] = {}
        """By UID: what became of pods that are not there any more."""
        self._put: set[str] = set()
        """UIDs of pods that were made while a list was on its way, and so may not be in it."""
        self._fresh_at = 0.0
        self._news: dict[str, asyncio.Event] = {}
        """What somebody waits for: news of the pod of that name, or under "" of any."""
        self.is_listed = False
        """There was a list, so a pod that is not in it is not there."""
        self.is_fresh = False
        """The API server could be asked when that was last tried."""
        self.on_fresh: Callable[[bool, str], None] = _ignore
        """Told whether the cache is fresh, and why not."""

    @property
    def age(self) -> float:
        """Seconds since the API server last said something."""
        return time.monotonic() - self._fresh_at

    def get(self, name: str) -> Seen | None:
        """A pod by its name."""
        return self._pods.get(name)

    def all(self) -> Mapping[str, Seen]:
        """Every pod, by name."""
        return self._pods

    def tally(self) -> Mapping[str, int]:
        """How many pods there are of each diagnosis."""
        return Counter(str(seen.diagnosis.kind) for seen in self._pods.values())

    def fate(self, name: str, uid: str) -> Diagnosis | None:
        """Why that very pod is over; None while it may still be there."""
        seen = self._pods.get(name)
        if seen is not None and seen.uid == uid:
            if seen.is_overdue:
                return _abandoned(seen.diagnosis)
            return seen.diagnosis if seen.diagnosis.is_final else None
        if uid in self._gone:
            return self._gone[uid]
        return diagnose_missing(name) if self.is_listed else None

    def overdue_in(self, name: str) -> float | None:
        """Seconds until a pod of that name that is being deleted counts as over by itself; None: it does not."""
        seen = self._pods.get(name)
        if seen is None or seen.diagnosis.is_final or math.isinf(seen.gone_by):
            return None
        return max(0.0, seen.gone_by + OVERDUE_SECONDS - time.monotonic())

    async def change(self, seconds: float | None, name: str = "") -> None:
        """Return with the next news, of that pod if one is named, or after so many seconds."""
        news = self._news.setdefault(name, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news.wait()

    def put(self, pod: Object) -> None:
        """Take in a pod that was answered by the API server, unless the watch was faster."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        seen = self._pods.get(name)
        if seen is None or seen.uid != uid:
            if seen is not None:
                self._bury(seen)
            if uid not in self._gone:
                self._put.add(uid)
                self._pods[name] = _see(pod, diagnose_pod(pod), None)
                self._tell(name)

    async def run(self) -> None:
        """List, then watch, again and again, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            began, wanted = math.inf, 0.0
            try:
                version = await self._list()
                began = time.monotonic()
                await self._watch(version)
            except KubeError as error:
                wanted = error.retry_after or 0.0
                self._miss(error)
            if time.monotonic() - began > SHORT_SECONDS:
                pause = FIRST_PAUSE
                if self.is_fresh:
                    continue
            await asyncio.sleep(max(pause, wanted))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _list(self) -> str:
        self._put.clear()
        listed = await self._kube.request(
            "GET", self._path, query={"labelSelector": self._selector}, seconds=30.0
        )
        before, self._pods = self._pods, {}
        for pod in listed.get("items") or ():
            name = pod["metadata"]["name"]
            old = before.get(name)
            known = old.diagnosis if old is not None and old.uid == pod["metadata"]["uid"] else None
            self._pods[name] = _see(pod, diagnose_pod(pod, before=known), old)
        for name, seen in before.items():
            now = self._pods.get(name)
            if now is None and seen.uid in self._put:
                self._pods[name] = seen  # the watch, which begins at this list, tells more
            elif now is None or now.uid != seen.uid:
                self._remember(seen.uid, diagnose_missing(name, seen.diagnosis))
        self.is_listed = True
        self._touch()
        self._tell()
        return str((listed.get("metadata") or {}).get("resourceVersion") or "")

    async def _watch(self, version: str) -> None:
        query = {
            "labelSelector": self._selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        lines = self._kube.watch(self._path, query)
        async with contextlib.aclosing(lines):
            async for text in lines:
                line = read_line(text, self._said_of(text))
                if line.must_relist:
                    said = line.diagnosis.message if line.diagnosis else "it made no sense"
                    logger.info("watching pods: listing again: %s", said)
                    return
                self._touch()
                if line.pod is None or line.diagnosis is None:
                    continue
                if line.is_gone:
                    self._remember(line.uid, line.diagnosis)
                    seen = self._pods.get(line.name)
                    if seen is not None and seen.uid == line.uid:
                        del self._pods[line.name]
                else:
                    old = self._pods.get(line.name)
                    if old is not None and old.uid != line.uid:
                        self._bury(old)
                    self._pods[line.name] = _see(line.pod, line.diagnosis, old)
                self._tell(line.name)

    def _said_of(self, line: object) -> dict[str, Diagnosis]:
        """What was said last of the pod that a line of the watch is about, by its UID."""
        thing = line.get("object") if isinstance(line, dict) else None
        metadata = thing.get("metadata") if isinstance(thing, dict) else None
        seen = self._pods.get(str(metadata.get("name"))) if isinstance(metadata, dict) else None
        return {} if seen is None else {seen.uid: seen.diagnosis}

    def _bury(self, seen: Seen) -> None:
        self._remember(seen.uid, diagnose_missing(seen.pod["metadata"]["name"], seen.diagnosis))

    def _remember(self, uid: str, said: Diagnosis) -> None:
        self._gone[uid] = said
        while len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]

    def _touch(self) -> None:
        self._fresh_at = time.monotonic()
        if not self.is_fresh:
            self.is_fresh = True
            logger.info("watching pods: the API server answers")
            self.on_fresh(True, "")

    def _miss(self, error: KubeError) -> None:
        """It could not be asked; nothing that runs is lost by that."""
        logger.warning("watching pods: %s", error.message)
        self.is_fresh = False
        status = f": it answers with status {error.status}" if error.status else ""
        self.on_fresh(False, f"{NO_ANSWER}{status}")
        self._tell()

    def _tell(self, name: str = "") -> None:
        """There are news of that pod; without a name, of all of them."""
        for each in ("", name) if name else tuple(self._news):
            if (news := self._news.pop(each, None)) is not None:
                news.set()


def _see(pod: Object, said: Diagnosis, before: Seen | None) -> Seen:
    metadata, gone_by = pod["metadata"], math.inf
    if metadata.get("deletionTimestamp"):
        gone_by = time.monotonic() + as_number(metadata.get("deletionGracePeriodSeconds"))
    if before is not None and before.uid == metadata["uid"]:
        gone_by = min(gone_by, before.gone_by)
    return Seen(pod, said, gone_by)


def _abandoned(said: Diagnosis) -> Diagnosis:
    return msgspec.structs.replace(
        said,
        kind=Kind.NODE_LOST,
        message=f"{said.message}; its node does not end it",
        advice=said.advice if said.kind is Kind.NODE_LOST else "see what became of the node",
        is_final=True,
        is_waiting=False,
        ends_at="",
    )


def _ignore(*_: object) -> None:
    """Stand in for nobody who wants to know."""
