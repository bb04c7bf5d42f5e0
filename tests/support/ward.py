"""A project whose jobs run as pods of the loopback cluster: a user, a cluster that can clone from the origin, and a daemon."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.support.agents import FAST
from tests.support.far import Far
from tests.support.kube.process import Cluster, cluster
from tests.support.waiting import until
from tests.support.world import ROOT, World

SECONDS = 90.0
IMAGE = "registry.example.com/oj-agent:1"


class Ward:
    """A user, a cluster, and a daemon that runs jobs in it."""

    def __init__(self, world: World, kube: Cluster, bare: Path) -> None:
        self.world = world
        self.kube = kube
        self.bare = bare
        self.go = bare / "go"
        """What steps wait for: the pods see this folder."""
        world.environ |= {
            "OJ_RUNTIME": "kubernetes",
            "OJ_LEASE": "off",
            "OJ_K8S_KUBECONFIG": str(kube.kubeconfig),
            "OJ_K8S_IMAGE": IMAGE,
            "OJ_K8S_START_TIMEOUT_MS": "60000",
        }
        self.far = Far(world)

    def push(self) -> None:
        """What is in the project's folder is at the remote."""
        self.world.git("add", "-A")
        self.world.git("commit", "-q", "-m", "more", "--allow-empty")
        self.world.git("push", "-q", "origin", "HEAD")

    def restart(self) -> None:
        """Kill the daemon without a warning, and start the next one."""
        self.far.restart()

    def pods(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.kube.list("pods")]

    def until_clean(self) -> None:
        """No pod and no Secret is left."""
        until(
            lambda: not self.kube.list("pods") and not self.kube.list("secrets"),
            SECONDS,
            lambda: (
                f"left: {self.pods()}, {[s['metadata']['name'] for s in self.kube.list('secrets')]}"
            ),
        )

    def pod_of(self, job_id: str) -> str:
        """The pod of a job, once it is known."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [
                pod["metadata"]["name"]
                for pod in self.kube.list("pods")
                if pod["metadata"]["labels"].get("oj.dev/job-id") == job_id
            ]
            return bool(found)

        until(look, SECONDS, lambda: str(self.world.show(job_id)))
        return found[0]

    def told(self, job_id: str, text: str) -> None:
        """Wait until `oj job show` says so."""
        until(
            lambda: text in self.world.oj("job", "show", job_id).out,
            SECONDS,
            lambda: self.world.oj("job", "show", job_id).out + self.world.log(job_id),
        )


Kind = TypeVar("Kind", bound=Ward)


@contextlib.contextmanager
def ward_of(
    kind: type[Kind],
    world: World,
    short_path: Path,
    image: dict[str, str] | None = None,
    **options: Any,
) -> Iterator[Kind]:
    """A ward for one block; `image` is what the environment of its image has besides, and the rest is the cluster's."""
    world.environ["PATH"] = f"{ROOT / 'tests/support/agent'}:{world.environ['PATH']}"
    bare = short_path / "repo.git"
    world.git_project()
    world.git("init", "-q", "--bare", str(bare))
    world.git("remote", "add", "origin", f"file://{bare}")
    (short_path / "kube").mkdir()
    environ = {**FAST, "PYTHONPATH": str(ROOT), **(image or {})}
    with cluster(short_path / "kube", share=[bare, ROOT], env=environ, **options) as kube:
        made = kind(world, kube, bare)
        made.push()
        try:
            yield made
        finally:
            made.far.close()


def scenario(ward: Ward, *turns: dict[str, Any]) -> None:
    """What agents do; it is in the repository, so that they find it in their clone."""
    (ward.world.project / "agent-scenario.json").write_text(
        json.dumps({"turns": list(turns), "otherwise": [{"say": "Is that all?"}]})
    )
