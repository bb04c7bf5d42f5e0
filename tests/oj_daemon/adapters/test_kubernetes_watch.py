"""The cache of pods: what is believed, and what is not, when lists and watches come late, break or say nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import pytest

from oj_daemon.adapters.kubernetes import watch
from oj_daemon.adapters.kubernetes.api import Kube, KubeError
from oj_daemon.adapters.kubernetes.diagnosis import Kind
from oj_daemon.adapters.kubernetes.watch import NO_ANSWER, PodCache

Object = dict[str, Any]
SECONDS = 30.0


def pod(name: str, uid: str) -> Object:
    return {"metadata": {"name": name, "uid": uid}, "status": {"phase": "Pending"}}


class Api:
    """Answers lists and watches with what a test puts there; a watch ends when it is told to."""

    namespace = "default"

    def __init__(self) -> None:
        self.pods: list[Object] = []
        self.lists = 0
        self.on_list: Callable[[], None] = lambda: None
        self.refusal: KubeError | None = None
        self.lines: asyncio.Queue[Object | KubeError | None] = asyncio.Queue()

    async def request(
        self, _method: str, _path: str, *, query: Mapping[str, str], seconds: float
    ) -> Object:
        assert query
        assert seconds
        self.lists += 1
        if self.refusal is not None:
            raise self.refusal
        answer = {"metadata": {"resourceVersion": "7"}, "items": list(self.pods)}
        await asyncio.sleep(0)
        self.on_list()
        return answer

    async def watch(self, _path: str, _query: Mapping[str, str]) -> AsyncIterator[Object]:
        while (line := await self.lines.get()) is not None:
            if isinstance(line, KubeError):
                raise line
            yield line


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(watch, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(watch, "LONGEST_PAUSE", 0.01)
    return Api()


@contextlib.asynccontextmanager
async def running(api: Api) -> AsyncIterator[PodCache]:
    cache = PodCache(cast("Kube", api), "me")
    task = asyncio.ensure_future(cache.run())
    try:
        yield cache
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(cache: PodCache, condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await cache.change(0.01)


async def test_a_pod_that_is_made_while_a_list_is_on_its_way_is_not_gone(api: Api) -> None:
    async with running(api) as cache:
        await until(cache, lambda: cache.is_listed)
        api.on_list = lambda: cache.put(pod("a", "u1"))
        api.lines.put_nowait(None)
        await until(cache, lambda: api.lists == 2 and cache.get("a"))
        assert cache.fate("a", "u1") is None
        api.on_list = lambda: None
        api.lines.put_nowait(None)
        await until(cache, lambda: cache.fate("a", "u1"))  # nor in the next list, nor in the watch
        fate = cache.fate("a", "u1")
        assert fate is not None
        assert fate.kind is Kind.DELETED


async def test_a_watch_that_says_nothing_costs_no_pod_and_is_begun_anew(api: Api) -> None:
    api.pods = [pod("a", "u1")]
    told: list[tuple[bool, str]] = []
    async with running(api) as cache:
        cache.on_fresh = lambda ok, why: told.append((ok, why))
        await until(cache, lambda: cache.get("a"))
        api.lines.put_nowait(KubeError("GET pods: no answer in time", reason="Unreachable"))
        await until(cache, lambda: api.lists == 2 and cache.is_fresh)
        assert cache.get("a") is not None
        assert cache.fate("a", "u1") is None
        assert told == [(True, ""), (False, NO_ANSWER), (True, "")]


async def test_an_api_server_that_is_away_makes_nothing_gone_and_is_told_with_its_status(
    api: Api,
) -> None:
    api.pods = [pod("a", "u1")]
    told: list[tuple[bool, str]] = []
    async with running(api) as cache:
        await until(cache, lambda: cache.get("a"))
        cache.on_fresh = lambda ok, why: told.append((ok, why))
        api.refusal = KubeError("GET pods: 500", status=500)
        api.lines.put_nowait(None)
        await until(cache, lambda: api.lists >= 4)
        assert not cache.is_fresh
        assert cache.fate("a", "u1") is None
        assert set(told) == {(False, f"{NO_ANSWER}: it answers with status 500")}
        api.refusal = None
        await until(cache, lambda: cache.is_fresh)


async def test_versions_that_are_forgotten_are_listed_again(api: Api) -> None:
    async with running(api) as cache:
        await until(cache, lambda: cache.is_listed)
        api.pods = [pod("a", "u1")]
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
        api.lines.put_nowait({"type": "ERROR", "object": status})
        await until(cache, lambda: cache.get("a"))
        assert api.lists == 2


async def test_a_pod_that_its_node_does_not_end_is_over_when_it_is_long_overdue(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = pod("a", "u1")
    ending["metadata"] |= {
        "deletionTimestamp": "2026-01-01T00:00:00Z",  # by the clock of another machine
        "deletionGracePeriodSeconds": 40,
    }
    api.pods = [ending]
    async with running(api) as cache:
        await until(cache, lambda: cache.get("a"))
        assert cache.fate("a", "u1") is None
        api.lines.put_nowait(None)
        await until(cache, lambda: api.lists == 2 and cache.is_fresh)
        assert cache.fate("a", "u1") is None  # however late it is elsewhere
        monkeypatch.setattr(watch, "OVERDUE_SECONDS", -41.0)  # more than its grace ago
        fate = cache.fate("a", "u1")
        assert fate is not None
        assert fate.kind is Kind.NODE_LOST
        assert fate.is_final
        assert fate.message.endswith("its node does not end it")


async def test_news_of_a_pod_wake_those_who_wait_for_it_and_nobody_else(api: Api) -> None:
    api.pods = [pod("a", "u1"), pod("b", "u2")]
    async with running(api) as cache:
        await until(cache, lambda: cache.get("b"))
        one, other = (asyncio.ensure_future(cache.change(None, name)) for name in ("a", "b"))
        every = asyncio.ensure_future(cache.change(None))
        await asyncio.sleep(0)
        api.lines.put_nowait({"type": "MODIFIED", "object": pod("a", "u1")})
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(one, every)
        assert not other.done()
        api.lines.put_nowait(None)  # and a list is news of all
        async with asyncio.timeout(SECONDS):
            await other
