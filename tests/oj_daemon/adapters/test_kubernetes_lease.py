"""The election: what is decided as a table, and electors against the test API server with clocks that the tests set."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from oj_daemon import settings
from oj_daemon.adapters.kubernetes import api
from oj_daemon.adapters.kubernetes.api import KubeError
from oj_daemon.adapters.kubernetes.lease import (
    NEVER,
    Act,
    Elector,
    Seen,
    Terms,
    boot_seconds,
    decide,
    new_identity,
    observe,
    record,
    terms,
)
from oj_daemon.errors import OjError, StoreError
from tests.support.kube.server import Fault, Server
from tests.support.kube.store import Key, Resource

TERMS = Terms(duration=15.0, renew=10.0, retry=2.0)
QUICK = Terms(duration=15.0, renew=10.0, retry=0.01)
"""Renewed all the time, judged by a clock that stands still."""
PATIENCE = 30.0
LEASES = Resource("coordination.k8s.io", "v1", "leases")
KEY = Key(LEASES, "rec", "oj-daemon")
DAY = 86_400.0


def spec(holder: str = "a", renewed: int = 0, **more: object) -> dict[str, Any]:
    return {
        "holderIdentity": holder,
        "leaseDurationSeconds": 15,
        "renewTime": f"2026-11-23T16:00:{renewed:02}.000000Z",
        **more,
    }


def lease(version: int, holder: str = "a", renewed: int = 0, **more: object) -> dict[str, Any]:
    return {
        "metadata": {"resourceVersion": str(version)},
        "spec": spec(holder, renewed, **more),
    }


# Pure


@pytest.mark.parametrize(
    ("seen", "now", "act"),
    [
        pytest.param(NEVER, 100.0, Act.CREATE, id="there is none"),
        pytest.param(Seen({}, "1", 100.0), 100.0, Act.TAKE, id="it is empty"),
        pytest.param(Seen(spec(""), "1", 100.0), 100.0, Act.TAKE, id="it was given back"),
        pytest.param(Seen(spec("me"), "1", 100.0), 100.0, Act.RENEW, id="it is ours"),
        pytest.param(
            Seen(spec("me"), "1", 100.0), 100.0 + DAY, Act.RENEW, id="ours, and nobody wanted it"
        ),
        pytest.param(Seen(spec("me"), "", 100.0), 100.0, Act.CREATE, id="ours was removed"),
        pytest.param(Seen(spec(), "1", 100.0), 100.0, Act.WAIT, id="just seen"),
        pytest.param(Seen(spec(), "1", 100.0), 114.9, Act.WAIT, id="seen for less than it lasts"),
        pytest.param(Seen(spec(), "1", 100.0), 115.0, Act.TAKE, id="seen for as long as it lasts"),
        pytest.param(
            Seen(spec(leaseDurationSeconds=60), "1", 100.0),
            159.9,
            Act.WAIT,
            id="the holder asked for more time than we would",
        ),
        pytest.param(
            Seen(spec(leaseDurationSeconds=3), "1", 100.0),
            103.0,
            Act.TAKE,
            id="the holder asked for less time than we would",
        ),
        pytest.param(
            Seen(spec(leaseDurationSeconds=None), "1", 100.0),
            114.9,
            Act.WAIT,
            id="the holder did not say how long",
        ),
        pytest.param(
            Seen(spec(), "", 100.0), 114.9, Act.WAIT, id="removed, but its holder may not know"
        ),
        pytest.param(Seen(spec(), "", 100.0), 115.0, Act.CREATE, id="removed for long enough"),
        pytest.param(
            Seen(spec(), "1", 100.0), 40.0, Act.WAIT, id="a clock that went back takes no Lease"
        ),
    ],
)
def test_what_is_done_about_a_lease(seen: Seen, now: float, act: Act) -> None:
    assert decide(seen, "me", now, TERMS) is act


@pytest.mark.parametrize(
    ("before", "found", "after"),
    [
        pytest.param(NEVER, lease(1), Seen(spec(), "1", 200.0), id="first look"),
        pytest.param(NEVER, None, NEVER, id="nothing was ever there"),
        pytest.param(
            NEVER,
            {"metadata": {"resourceVersion": "1"}},
            Seen({}, "1", 200.0),
            id="a Lease without a record",
        ),
        pytest.param(
            Seen(spec(), "1", 100.0), lease(1), Seen(spec(), "1", 100.0), id="nothing changed"
        ),
        pytest.param(
            Seen(spec(), "1", 100.0),
            lease(2, renewed=5),
            Seen(spec(renewed=5), "2", 200.0),
            id="it was renewed",
        ),
        pytest.param(
            Seen(spec(), "1", 100.0),
            lease(2),
            Seen(spec(), "2", 100.0),
            id="a label is no renewal, but has a version",
        ),
        pytest.param(Seen(spec(), "1", 100.0), None, Seen(spec(), "", 100.0), id="it was removed"),
    ],
)
def test_what_is_known_of_a_lease_after_a_look(
    before: Seen, found: dict[str, Any] | None, after: Seen
) -> None:
    assert observe(before, found, 200.0) == after


def test_a_record_counts_how_often_it_changes_hands() -> None:
    at = datetime(2026, 11, 23, 16, 0, tzinfo=UTC)
    first = record(NEVER, "a", TERMS, at)
    assert first == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-11-23T16:00:00.000000Z",
        "renewTime": "2026-11-23T16:00:00.000000Z",
        "leaseTransitions": 0,
    }
    later = at.replace(second=2)
    renewed = record(Seen(first, "1", 0), "a", TERMS, later)
    assert renewed == {**first, "renewTime": "2026-11-23T16:00:02.000000Z"}
    taken = record(Seen(renewed, "2", 0), "b", TERMS, later)
    assert taken["leaseTransitions"] == 1
    assert taken["acquireTime"] == taken["renewTime"]
    again = record(Seen({**taken, "holderIdentity": ""}, "3", 0), "b", TERMS, later)
    assert again["leaseTransitions"] == 2


def test_less_than_a_second_is_a_second_to_the_api() -> None:
    assert record(NEVER, "a", Terms(0.2, 0.1, 0.05), datetime.now(UTC))["leaseDurationSeconds"] == 1


def test_the_same_pod_started_again_is_somebody_else() -> None:
    assert new_identity("oj-0") != new_identity("oj-0")
    assert new_identity("oj-0").startswith("oj-0_")
    assert not new_identity("").startswith("_")


@pytest.mark.parametrize(
    "environ",
    [
        {"OJ_LEASE_RENEW_MS": "15000"},
        {"OJ_LEASE_DURATION_MS": "9000"},
        {"OJ_LEASE_RETRY_MS": "10000"},
    ],
)
def test_a_holder_that_would_act_longer_than_others_wait_is_refused(
    environ: dict[str, str],
) -> None:
    with pytest.raises(OjError, match="each has to be less than the next"):
        terms(settings.load({"OJ_STATE_DIR": "/x", **environ}))
    assert terms(settings.load({"OJ_STATE_DIR": "/x"})) == TERMS


def test_the_clock_goes_on_by_itself() -> None:
    assert boot_seconds() <= boot_seconds()


# Against a server


class Clock:
    """The time of one machine."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Cluster:
    """A server, and daemons that want to be the only one."""

    def __init__(self, server: Server, folder: Path, stack: contextlib.AsyncExitStack) -> None:
        self.server = server
        self._folder = folder
        self._stack = stack

    async def elector(self, name: str, clock: Clock, terms: Terms = QUICK) -> Elector:
        path = self.server.kubeconfig(self._folder / "kubeconfig", "rec")
        found = settings.load({"OJ_STATE_DIR": "/x", "OJ_K8S_KUBECONFIG": str(path)})
        kube = await api.connect(found)
        self._stack.push_async_callback(kube.close)
        return Elector(kube, "oj-daemon", name, terms, clock)

    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.store.get(KEY)["spec"]
        return found

    async def asked(self, count: int = 3) -> None:
        """Wait until so many more requests have come in."""
        enough = len(self.server.requests) + count
        await until(lambda: len(self.server.requests) >= enough)


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    server = Server("rec")
    await server.start()
    try:
        async with asyncio.timeout(PATIENCE), contextlib.AsyncExitStack() as stack:
            yield Cluster(server, folder, stack)
    finally:
        await server.close()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - bounded by the timeout of the cluster
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def at_work(*work: Awaitable[Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Run these beside the block, and end what has not ended by itself."""

    async def do(one: Awaitable[Any]) -> Any:
        return await one

    tasks = [asyncio.get_running_loop().create_task(do(one)) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_of_two_one_is_elected_and_the_other_takes_over_when_it_is_silent(
    folder: Path,
) -> None:
    async with cluster(folder) as world:
        mine, yours = Clock(), Clock(5.0)  # no clock is like the other
        first = await world.elector("a", mine)
        told: list[tuple[bool, str]] = []
        second = await world.elector("b", yours)
        second.on_lease = lambda ok, why: told.append((ok, why))
        await first.acquire()
        assert (first.is_held(), second.is_held()) == (True, False)
        assert (world.spec()["holderIdentity"], first.transitions) == ("a", 0)
        async with at_work(second.acquire()) as (waiting,):
            await until(lambda: told)
            assert told == [(False, "standing by: the Lease rec/oj-daemon is held by a")]
            yours.now += 14.9
            await world.asked()
            assert not waiting.done()
            yours.now += 0.1
            await waiting
        assert (second.is_held(), second.transitions) == (True, 1)
        assert told[1:] == [(True, "the Lease rec/oj-daemon is held")]
        assert world.spec()["holderIdentity"] == "b"
        # The first one slept all the while: its clock ran, it asks nobody, and knows.
        mine.now += 15.0
        asked = len(world.server.requests)
        with pytest.raises(StoreError, match=r"may act no more.*was not renewed for 10 s") as over:
            first.guard()
        assert over.value.code == "replaced"
        assert await first.keep() == "the Lease rec/oj-daemon was not renewed for 10 s"
        assert len(world.server.requests) == asked


async def test_a_holder_that_renews_is_never_replaced(folder: Path) -> None:
    async with cluster(folder) as world:
        mine, yours = Clock(), Clock()
        first, second = await world.elector("a", mine), await world.elector("b", yours)
        await first.acquire()
        async with at_work(first.keep(), second.acquire()) as (keeping, waiting):
            for _ in range(20):
                await world.asked(6)
                mine.now += 4.0
                yours.now += 4.0
                assert not keeping.done()
                assert not waiting.done()
            assert first.is_held()


async def test_at_no_moment_of_any_order_of_events_are_two_of_them_holders(folder: Path) -> None:
    """Time goes on in steps, requests fail at random places; what every daemon believes is compared at each step."""
    async with cluster(folder) as world:
        clock = Clock()
        electors = [await world.elector(name, clock) for name in "abc"]
        reigns = []

        async def live(elector: Elector) -> None:
            await elector.acquire()
            reigns.append(elector.identity)
            await elector.keep()

        async with at_work(*map(live, electors)) as tasks:
            for step in range(120):
                if step == 30:
                    # All requests of whoever reigns fail from here on, and those of the others do not.
                    await until(lambda: len(reigns) == 1)
                    (reigning,) = [one for one in electors if one.is_held()]
                    reigning._kube._client.configuration.host = "http://127.0.0.1:1"
                clock.now += 0.5
                await world.asked(6)
                assert sum(one.is_held() for one in electors) <= 1
            await until(lambda: len(reigns) == 2)
            assert sum(task.done() for task in tasks) == 1
        assert len(set(reigns)) == 2


async def test_a_clock_that_jumps_makes_no_second_holder(folder: Path) -> None:
    async with cluster(folder) as world:
        mine, yours = Clock(), Clock()
        first, second = await world.elector("a", mine), await world.elector("b", yours)
        await first.acquire()
        # The machine slept for a day: it does not believe what it knew, whatever the server says.
        mine.now += DAY
        assert not first.is_held()
        mine.now -= DAY
        assert not first.is_held(), "once over, for good"
        async with at_work(second.acquire()) as (waiting,):
            await world.asked()
            yours.now -= DAY
            await world.asked()
            assert not waiting.done(), "a clock that went back only waits longer"
            yours.now += DAY + 15.0
            await waiting
        assert [first.is_held(), second.is_held()] == [False, True]


async def test_a_server_that_is_away_for_less_than_the_deadline_changes_nothing(
    folder: Path,
) -> None:
    async with cluster(folder) as world:
        clock = Clock()
        elector = await world.elector("a", clock)
        await elector.acquire()
        async with at_work(elector.keep()) as (keeping,):
            await world.asked()
            world.server.faults.append(Fault("down"))
            await world.asked()
            clock.now += 9.9
            await world.asked()
            assert elector.is_held()
            world.server.faults.clear()
            await world.asked()
            clock.now += 9.9
            assert elector.is_held()
            assert not keeping.done()


async def test_a_server_that_is_away_for_longer_ends_the_tenure(folder: Path) -> None:
    async with cluster(folder) as world:
        clock = Clock()
        elector = await world.elector("a", clock)
        told: list[tuple[bool, str]] = []
        elector.on_lease = lambda ok, why: told.append((ok, why))
        await elector.acquire()
        world.server.faults.append(Fault("status", status=500))
        async with at_work(elector.keep()) as (keeping,):
            await world.asked()
            clock.now += 10.0
            assert not elector.is_held()
            assert await keeping == "the Lease rec/oj-daemon was not renewed for 10 s"
        assert told[-1] == (False, "the Lease rec/oj-daemon was not renewed for 10 s")
        world.server.faults.clear()
        assert not elector.is_held()


async def test_a_renewal_that_hangs_is_given_up_in_time_for_another_one(folder: Path) -> None:
    async with cluster(folder) as world:
        elector = await world.elector("a", Clock(), Terms(15.0, 2.0, 0.01))
        await elector.acquire()
        world.server.faults.append(Fault("delay", method="PUT", seconds=PATIENCE, times=1))
        async with at_work(elector.keep()) as (keeping,):
            await until(lambda: not world.server.faults[0].times)
            await world.asked()
            assert not keeping.done()


async def test_a_renewal_whose_answer_was_lost_is_made_again(folder: Path) -> None:
    async with cluster(folder) as world:
        clock = Clock()
        elector = await world.elector("a", clock)
        await elector.acquire()
        world.server.faults.append(Fault("mute", method="PUT", times=1))
        async with at_work(elector.keep()):
            await until(lambda: not world.server.faults[0].times)
            clock.now += 9.0
            await world.asked(6)
            clock.now += 9.0
            assert elector.is_held()


async def test_the_answer_to_getting_it_may_be_lost_too(folder: Path) -> None:
    async with cluster(folder) as world:
        world.server.faults.append(Fault("mute", method="POST", times=1))
        elector = await world.elector("a", Clock())
        await elector.acquire()
        assert (elector.is_held(), world.spec()["holderIdentity"]) == (True, "a")
        assert elector.transitions == 0


async def test_a_label_that_somebody_writes_costs_no_tenure(folder: Path) -> None:
    async with cluster(folder) as world:
        clock = Clock()
        elector = await world.elector("a", clock)
        await elector.acquire()
        async with at_work(elector.keep()):
            world.server.store.patch(KEY, {"metadata": {"labels": {"x": "y"}}})
            await world.asked(5)
            clock.now += 9.0
            await world.asked(5)
            clock.now += 9.0
            assert elector.is_held()


async def test_a_lease_that_another_one_holds_or_nobody_ends_the_tenure(folder: Path) -> None:
    async with cluster(folder) as world:
        elector = await world.elector("a", Clock())
        await elector.acquire()
        world.server.store.patch(KEY, {"spec": {"holderIdentity": "by-hand"}})
        assert await elector.keep() == "the Lease rec/oj-daemon is held by by-hand"
        other = await world.elector("by-hand", Clock())
        await other.acquire()
        world.server.store.delete(KEY)
        assert await other.keep() == "the Lease rec/oj-daemon was removed"
        assert not other.is_held()


async def test_a_lease_that_was_given_back_is_there_for_the_next_at_once(folder: Path) -> None:
    async with cluster(folder) as world:
        mine, yours = Clock(), Clock()
        first, second = await world.elector("a", mine), await world.elector("b", yours)
        await first.acquire()
        async with at_work(second.acquire()) as (waiting,):
            await world.asked()
            await first.release()
            assert not first.is_held()
            await waiting
        assert (second.is_held(), second.transitions) == (True, 1)
        await first.release()
        assert world.spec()["holderIdentity"] == "b", "what we do not hold is not ours to give"


async def test_a_lease_is_given_back_also_after_a_renewal_that_was_cut_off(folder: Path) -> None:
    async with cluster(folder) as world:
        elector = await world.elector("a", Clock())
        await elector.acquire()
        # Twice, because a connection that is cut off makes the library ask once more.
        world.server.faults.append(Fault("mute", method="PUT", times=2))
        with pytest.raises(KubeError):
            await elector._renew()
        await elector.release()
        assert world.spec()["holderIdentity"] == ""


async def test_a_server_that_cannot_be_reached_at_first_is_waited_for(folder: Path) -> None:
    async with cluster(folder) as world:
        world.server.faults.append(Fault("down", times=5))
        told: list[str] = []
        elector = await world.elector("a", Clock())
        elector.on_lease = lambda _, why: told.append(why)
        await elector.acquire()
        assert told[0].startswith("standing by: GET /apis/coordination.k8s.io/v1/namespaces/rec/")


@pytest.mark.parametrize("status", [401, 403])
async def test_whoever_may_not_use_leases_is_told_so_at_once(folder: Path, status: int) -> None:
    async with cluster(folder) as world:
        world.server.faults.append(Fault("status", status=status))
        with pytest.raises(KubeError) as failure:
            await (await world.elector("a", Clock())).acquire()
    assert failure.value.status == status


async def test_a_namespace_that_is_not_there_is_named(folder: Path) -> None:
    async with cluster(folder) as world:
        elector = await world.elector("a", Clock())
        elector._path = elector._path.replace("rec", "absent")
        with pytest.raises(KubeError, match='namespaces "absent" not found'):
            await elector.acquire()
