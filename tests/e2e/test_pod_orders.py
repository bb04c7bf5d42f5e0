"""Many places ordered at once, from an API server that takes its time: how often it is asked, and that nothing is left behind.

Rule: no node takes the pods, so they cost nothing. How fast they are made is for `scripts/bench P14` to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.kube.process import KubeProcess
from tests.support.waiting import until
from tests.support.world import World

SECONDS = 90.0
DELAY = 0.02
SHARED = ("GET pods", "GET secrets", "WATCH pods")
"""What is asked once for all places, or by this test."""


@pytest.fixture
def kube(world: World, short_path: Path) -> Iterator[KubeProcess]:
    """An API server and nothing else; the daemon has its places there."""
    (short_path / "kube").mkdir()
    made = KubeProcess(short_path / "kube")
    world.environ |= {
        "OJ_RUNTIME": "kubernetes",
        "OJ_LEASE": "off",
        "OJ_K8S_KUBECONFIG": str(made.kubeconfig),
        "OJ_K8S_IMAGE": "registry.example.com/oj-agent:1",
        "OJ_K8S_MAX_PLACES": "1000",
        "OJ_TIMEOUT_CONNECT_MS": "30000",  # a loaded machine
    }
    world.job('source = "folder"\nstep "a" { run = "true" }')
    try:
        yield made
    finally:
        world.oj("daemon", "stop", "--kill", code=None)
        made.close()


def writes(kube: KubeProcess) -> dict[str, int]:
    """How often was asked for what that belongs to one place."""
    return {what: count for what, count in kube.counts().items() if what not in SHARED}


def owners(kube: KubeProcess) -> list[list[str]]:
    """The pods that each Secret goes with."""
    found: Sequence[dict[str, Any]] = kube.list("secrets")
    return [[each["uid"] for each in secret["metadata"].get("ownerReferences") or ()] for secret in found]  # fmt: skip


def until_clean(kube: KubeProcess) -> None:
    """No pod and no Secret is left."""
    until(
        lambda: not kube.list("pods") and not kube.list("secrets"),
        SECONDS,
        lambda: f"left: {len(kube.list('pods'))} pods, {len(kube.list('secrets'))} Secrets",
        pause=0.3,
    )


@pytest.mark.timeout(240)
def test_two_hundred_places_at_once_cost_five_requests_each_and_leave_nothing(
    world: World, kube: KubeProcess
) -> None:
    count = 200
    kube.fault("delay", seconds=DELAY)
    jobs = world.start_many("build", count)
    until(
        lambda: writes(kube).get("PATCH secrets/NAME", 0) >= count,
        SECONDS,
        lambda: str(kube.counts()),
        pause=0.3,
    )
    assert writes(kube) == {"POST secrets": count, "POST pods": count, "PATCH secrets/NAME": count}
    uids = sorted([pod["metadata"]["uid"]] for pod in kube.list("pods"))
    assert sorted(owners(kube)) == uids

    world.oj("job", "cancel", *jobs)
    until_clean(kube)  # each Secret with its pod, before anybody asks for that
    until(
        lambda: writes(kube)["DELETE secrets/NAME"] >= count,
        SECONDS,
        lambda: str(kube.counts()),
        pause=0.3,
    )
    assert kube.counts()["WATCH pods"] <= 2  # one, and another should the first have ended
    assert writes(kube) == {
        "POST secrets": count,
        "POST pods": count,
        "PATCH secrets/NAME": count,
        "DELETE pods/NAME": count,
        "DELETE secrets/NAME": count,
    }


def test_a_place_whose_making_was_not_answered_has_one_pod_that_its_secret_goes_with(
    world: World, kube: KubeProcess
) -> None:
    world.oj("daemon", "start")
    kube.fault("mute", method="POST", match="/pods", times=1)  # carried out, then cut off
    (job,) = world.start_many("build", 1)
    until(lambda: any(owners(kube)), SECONDS, lambda: str(kube.counts()))
    (pod,) = kube.list("pods")
    assert owners(kube) == [[pod["metadata"]["uid"]]]
    world.oj("job", "cancel", job)
    until_clean(kube)
