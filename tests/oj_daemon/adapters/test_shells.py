"""A command in a place: nothing waits for a place that is known to be gone, and nothing that had come of it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from oj_daemon import settings
from oj_daemon.adapters import shells
from oj_daemon.adapters.kubernetes import watch
from oj_daemon.adapters.kubernetes.api import Kube
from oj_daemon.adapters.kubernetes.runtime import Issuer, KubernetesPlaces
from oj_daemon.adapters.place import PlaceClient
from oj_daemon.adapters.shells import PlaceShell, while_there
from oj_daemon.errors import AdapterError
from oj_daemon.settings import Secret
from oj_daemon.shell import RunSpec, RunState
from tests.oj_daemon.adapters.test_kubernetes_watch import Api, pod

SECONDS = 30.0
ROUTE = {"pod": "oj-a", "uid": "u1", "spawn": "1"}
RUN = "job/1"


class Place:
    """Every request to it hangs, or cannot be made."""

    def __init__(self) -> None:
        self.is_reachable = True
        self.asked = asyncio.Event()

    async def _ask(self, *_: object, **__: object) -> Any:
        self.asked.set()
        if not self.is_reachable:
            raise AdapterError("ask the place: connection reset", code="unreachable")
        await asyncio.Event().wait()

    start = view = end = _ask


class Lost(KubernetesPlaces):
    """One pod, which is about to be lost."""

    def __init__(self, api: Api, folder: Path) -> None:
        issuer = Issuer("", lambda _: ("", ""), ssl.create_default_context())
        super().__init__(
            cast("Kube", api),
            settings.load({"OJ_STATE_DIR": str(folder)}).cluster,
            instance="me",
            key=Secret(b"key"),
            issuer=issuer,
            environ={},
            checkpoints=folder,
        )
        self.api = api
        self.place = Place()

    async def client(self, route: Mapping[str, str]) -> PlaceClient:
        if gone := self.why_gone(route):
            raise AdapterError(gone, code="gone")
        return cast("PlaceClient", self.place)

    def lose(self) -> None:
        """The watch tells."""
        self.api.lines.put_nowait({"type": "DELETED", "object": pod("oj-a", "u1")})


@pytest.fixture
async def lost(tmp_path: Path) -> AsyncIterator[Lost]:
    api = Api()
    api.pods = [pod("oj-a", "u1")]
    places = Lost(api, tmp_path)
    task = asyncio.ensure_future(places.cache.run())
    while not places.cache.is_listed:
        await places.cache.change(1.0)
    yield places
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def used(lost: Lost, act: Callable[[PlaceShell], Any], folder: Path) -> Any:
    """What becomes of something in a place that is lost while it is waited for."""
    shell = PlaceShell(lost, ROUTE, lambda run_id: folder / run_id)
    acting = asyncio.ensure_future(act(shell))
    async with asyncio.timeout(SECONDS):
        await lost.place.asked.wait()
        await asyncio.sleep(0)
        assert not acting.done()
        lost.lose()
        return await acting


@pytest.mark.parametrize("is_reachable", [True, False], ids=["hangs", "is unreachable"])
async def test_no_pause_and_no_connection_lies_between_the_news_of_a_lost_place_and_its_end(
    lost: Lost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_reachable: bool
) -> None:
    monkeypatch.setattr(shells, "FIRST_PAUSE", 1e6)
    monkeypatch.setattr(shells, "LONGEST_PAUSE", 1e6)
    lost.place.is_reachable = is_reachable
    found = await used(lost, lambda shell: shell.wait(RUN), tmp_path)
    assert found.state is RunState.LOST
    assert found.detail
    assert found.detail == lost.why_gone(ROUTE)


@pytest.mark.parametrize("is_reachable", [True, False], ids=["hangs", "is unreachable"])
async def test_a_step_is_neither_begun_nor_ended_in_a_place_that_is_lost_meanwhile(
    lost: Lost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_reachable: bool
) -> None:
    monkeypatch.setattr(shells, "FIRST_PAUSE", 1e6)
    lost.place.is_reachable = is_reachable
    spec = RunSpec(run_id=RUN, script="true", cwd=Path("/"), env={}, umask=0o022)
    with pytest.raises(AdapterError) as raised:
        await used(lost, lambda shell: shell.start(spec), tmp_path)
    assert raised.value.message == lost.why_gone(ROUTE)
    shell = PlaceShell(lost, ROUTE, lambda run_id: tmp_path / run_id)
    assert await shell.end(RUN) == ""  # nothing is left of it


async def test_nobody_waits_for_the_end_of_a_step_whose_place_is_lost(
    lost: Lost, tmp_path: Path
) -> None:
    assert await used(lost, lambda shell: shell.end(RUN), tmp_path) == ""


async def test_what_had_come_before_the_news_is_no_loss(lost: Lost) -> None:
    async def work() -> str:
        await lost.cache.change(None, "oj-a")
        await asyncio.sleep(0)  # it is read, but has to be looked at
        return "its last words"

    working = asyncio.ensure_future(while_there(lost, ROUTE, work()))
    await asyncio.sleep(0)
    lost.lose()
    async with asyncio.timeout(SECONDS):
        assert await working == "its last words"


async def test_what_goes_wrong_in_a_place_that_is_there_is_told_as_it_is(lost: Lost) -> None:
    async def work() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await while_there(lost, ROUTE, work())


async def test_a_place_whose_node_does_not_end_it_is_gone_without_any_news(
    lost: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = pod("oj-a", "u1")
    ending["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 40}  # fmt: skip
    waiting = asyncio.ensure_future(lost.gone(ROUTE))
    monkeypatch.setattr(watch, "OVERDUE_SECONDS", -39.99)
    lost.api.lines.put_nowait({"type": "MODIFIED", "object": ending})
    async with asyncio.timeout(SECONDS):
        assert "its node does not end it" in await waiting


async def test_a_question_about_a_place_that_is_there_is_answered_in_time(lost: Lost) -> None:
    assert await lost.gone(ROUTE, 0.0) == ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await lost.gone(ROUTE)
    assert lost.why_gone(ROUTE) == ""
