"""Whether a daemon may act, and what becomes of one whose tenure ends."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oj_daemon import settings
from oj_daemon.errors import OjError, StoreError
from oj_daemon.settings import Settings
from oj_daemon.tenure import Hooks, Pulse, elected, refuse_nonsense
from tests.support.kube.server import Fault, Server
from tests.support.kube.store import Key, Resource
from tests.support.world import ROOT

PATIENCE = 30.0
KEY = Key(Resource("coordination.k8s.io", "v1", "leases"), "rec", "oj-daemon")


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Server]:
    server = Server("rec")
    await server.start()
    server.kubeconfig(folder / "kubeconfig", "rec")
    try:
        async with asyncio.timeout(PATIENCE):
            yield server
    finally:
        await server.close()


def on(folder: Path, **environ: str) -> Settings:
    """A daemon that is to be elected."""
    kubeconfig = str(folder / "kubeconfig")
    return settings.load(
        {
            "OJ_STATE_DIR": str(folder),
            "OJ_LEASE": "on",
            "OJ_K8S_KUBECONFIG": kubeconfig,
            "OJ_POD_NAME": "oj-0",
            **environ,
        }
    )


def in_a_pod(folder: Path, **environ: str) -> Settings:
    """A daemon that chose the Kubernetes runtime by itself."""
    token = folder / settings.SERVICE_ACCOUNT_TOKEN
    token.parent.mkdir(parents=True)
    token.write_text("x")
    environ = {
        "OJ_STATE_DIR": str(folder),
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "OJ_K8S_KUBECONFIG": str(folder / "kubeconfig"),
        **environ,
    }
    return settings.load(environ, folder)


def pending() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


def unexpected(why: str) -> None:
    pytest.fail(f"lost: {why}")


HOOKS = Hooks(on_loss=unexpected)


def holder(server: Server) -> str:
    return str(server.store.get(KEY)["spec"]["holderIdentity"])


@pytest.mark.parametrize(
    ("environ", "reason"), [({}, "runtime local"), ({"OJ_LEASE": "off"}, "OJ_LEASE")]
)
async def test_without_a_lease_a_daemon_acts_for_as_long_as_it_likes(
    environ: dict[str, str], reason: str
) -> None:
    config = settings.load({"OJ_STATE_DIR": "/x", **environ})
    async with elected(config, pending(), HOOKS) as tenure:
        assert tenure is not None
        assert tenure.guard is None
        assert tenure.choices == (settings.Choice("lease_holder", "none", reason),)


def test_without_a_lease_nobody_pays_for_the_library() -> None:
    script = """
import asyncio, sys
from oj_daemon import main, settings
from oj_daemon.tenure import Hooks, elected
async def live():
    config = settings.load({"OJ_STATE_DIR": "/x"})
    async with elected(config, asyncio.get_running_loop().create_future(), Hooks(print)):
        print([name for name in ("kubernetes", "aiohttp", "yaml") if name in sys.modules])
asyncio.run(live())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"


async def test_the_kubernetes_runtime_elects_and_the_lease_is_given_back(folder: Path) -> None:
    async with served(folder) as server:
        config = in_a_pod(folder)
        assert (config.runtime, config.lease) == ("kubernetes", "auto")
        async with elected(config, pending(), HOOKS) as tenure:
            assert tenure is not None
            assert tenure.guard is not None
            tenure.guard()
            (choice,) = tenure.choices
            assert (choice.name, choice.value) == ("lease_holder", holder(server))
        assert holder(server) == ""
        with pytest.raises(StoreError):
            tenure.guard()


async def test_a_lease_that_was_not_asked_for_by_name_and_is_not_to_be_had_is_a_warning(
    folder: Path,
) -> None:
    async with served(folder) as server:
        server.faults.append(Fault("status", status=403))
        async with elected(in_a_pod(folder), pending(), HOOKS) as tenure:
            assert tenure is not None
            assert tenure.guard is None
            assert tenure.choices[0].reason == "the cluster does not let us use a Lease"
            (warning,) = tenure.warnings
        assert warning.startswith("no Lease keeps a second daemon away: GET /apis/")


async def test_credentials_that_are_not_there_are_a_warning_or_the_end(folder: Path) -> None:
    config = in_a_pod(folder)
    async with elected(config, pending(), HOOKS) as tenure:
        assert tenure is not None
        assert "No such file or directory" in tenure.warnings[0]
    with pytest.raises(OjError, match=r"^OJ_LEASE=on: load credentials .*No such file") as failure:
        async with elected(on(folder), pending(), HOOKS):
            pytest.fail("acts without a Lease")
    assert failure.value.hint.startswith("set OJ_K8S_KUBECONFIG")


async def test_a_daemon_that_is_asked_to_end_while_it_stands_by_does_not_act(folder: Path) -> None:
    async with served(folder) as server:
        told: list[str] = []
        asked = pending()

        def on_lease(ok: bool, why: str) -> None:
            assert not ok
            told.append(why)
            asked.set_result(None)

        async with elected(on(folder), pending(), HOOKS):
            async with elected(on(folder), asked, Hooks(unexpected, on_lease)) as tenure:
                assert tenure is None
            assert told[0].startswith("standing by: the Lease rec/oj-daemon is held by oj-0_")
            assert holder(server).startswith("oj-0_")


async def test_a_daemon_that_is_refused_while_another_holds_the_lease_does_not_go_on_alone(
    folder: Path,
) -> None:
    async with served(folder) as server:

        def on_lease(_ok: bool, _why: str) -> None:
            server.faults.append(Fault("status", status=403))

        config = in_a_pod(folder, OJ_LEASE_RETRY_MS="10")
        async with elected(on(folder), pending(), HOOKS):
            with pytest.raises(OjError, match=r"^OJ_LEASE=auto: ") as failure:
                async with elected(config, pending(), Hooks(unexpected, on_lease)):
                    pytest.fail("acts beside another")
            server.faults.clear()
        assert failure.value.code == "unavailable"


async def test_when_the_lease_is_lost_the_block_ends_and_nothing_is_given_back(
    folder: Path,
) -> None:
    async with served(folder) as server:
        lost: list[str] = []
        config = on(folder, OJ_LEASE_RETRY_MS="10")

        async def act() -> None:
            async with elected(config, pending(), Hooks(lost.append)):
                server.store.patch(KEY, {"spec": {"holderIdentity": "somebody-else"}})
                await asyncio.Event().wait()

        with pytest.raises(StoreError, match="held by somebody-else") as failure:
            await act()
        assert failure.value.code == "replaced"
        assert lost == ["the Lease rec/oj-daemon is held by somebody-else"]
        assert holder(server) == "somebody-else"


async def test_a_daemon_that_ends_badly_keeps_its_lease_and_says_why_it_ended(folder: Path) -> None:
    async with served(folder) as server:
        with pytest.raises(StoreError, match=r"^the disk is full$"):
            async with elected(on(folder), pending(), HOOKS):
                raise StoreError("the disk is full")
        assert holder(server).startswith("oj-0_")


async def test_a_daemon_in_a_hurry_keeps_its_lease(folder: Path) -> None:
    async with served(folder) as server:
        async with elected(on(folder), pending(), HOOKS) as tenure:
            assert tenure is not None
            tenure.give_back = False
        assert holder(server).startswith("oj-0_")


def test_a_loop_that_wakes_up_looks_around_before_it_does_anything() -> None:
    pulse = Pulse()
    order: list[str] = []

    async def live() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.call_later(0.001, order.append, "timer")
        loop.call_later(0.01, done.set_result, None)
        loop.call_soon_threadsafe(order.append, "call")
        pulse.on_wake = lambda: order.append("woke")
        # As if the process had been stopped: all of that is due when the loop is back.
        threading.Event().wait(0.05)
        await done

    with asyncio.Runner(loop_factory=pulse.loop) as runner:
        runner.run(live())
    assert order.index("woke") < order.index("call")
    assert order.index("woke") < order.index("timer")


async def test_whoever_wakes_up_after_its_tenure_is_ended_before_anything_else(
    folder: Path,
) -> None:
    async with served(folder) as server:
        pulse = Pulse()
        lost: list[str] = []
        config = on(
            folder,
            OJ_LEASE_DURATION_MS="900",
            OJ_LEASE_RENEW_MS="600",
            OJ_LEASE_RETRY_MS="500",
        )
        async with elected(config, pending(), Hooks(lost.append), pulse):
            server.faults.append(Fault("down"))
            threading.Event().wait(0.7)  # as if the whole process had been stopped
            pulse.on_wake()
            assert lost == ["the Lease rec/oj-daemon was not renewed for 0.6 s"]
        pulse.on_wake()
        assert len(lost) == 1, "nobody is left to be ended"


def test_settings_that_contradict_each_other_are_refused_before_anything_is_done() -> None:
    environ = {"OJ_STATE_DIR": "/x", "OJ_LEASE_RENEW_MS": "20000"}
    refuse_nonsense(settings.load(environ))
    with pytest.raises(OjError, match="OJ_LEASE_RENEW_MS=20000, OJ_LEASE_DURATION_MS=15000"):
        refuse_nonsense(settings.load({**environ, "OJ_LEASE": "on"}))
