"""The test kubelet itself: pods of the real pod builder run as real processes, and every control does what it says."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oj_daemon.adapters.kubernetes import pod as builder
from oj_daemon.adapters.kubernetes.pod import Clone, PodPlan
from oj_daemon.adapters.place import PlaceClient
from oj_daemon.settings import Secret
from oj_daemon.shell import RunState
from tests.support.kube.container import unsupported
from tests.support.kube.process import Cluster, cluster, state
from tests.support.places import NAME, TOKEN, Papers
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(bool(unsupported()), reason=unsupported())

Object = dict[str, Any]
SECONDS = 60.0


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="oj-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def kube(folder: Path) -> Iterator[Cluster]:
    with cluster(folder, "rec") as made:
        yield made


def plan(**more: Any) -> PodPlan:
    given: dict[str, Any] = {
        "name": NAME, "namespace": "rec", "instance": "i-1", "job_id": "job-1", "image": "registry.example.com/oj:1",
        "args": ("--place", "--session-dir", "/tmp/oj"), "grace_seconds": 15,
    }  # fmt: skip
    return PodPlan(**{**given, **more})


def repository(folder: Path) -> str:
    """A bare repository with one commit; its URL."""
    work, bare = folder / "work", folder / "repo.git"
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com")
    for words in (
        (*git, "init", "-q", "-b", "main", str(work)),
        (*git, "-C", str(work), "commit", "-q", "--allow-empty", "-m", "first"),
        (*git, "clone", "-q", "--bare", str(work), str(bare)),
    ):
        subprocess.run(words, check=True, capture_output=True)
    return f"file://{bare}"


def create(kube: Cluster, papers: Papers, wanted: PodPlan | None = None) -> Object:
    """Secret, pod, and to whom the Secret belongs, as the daemon does it."""
    wanted = wanted or plan()
    certificate = papers.authority.issue_cert(wanted.name)
    secret = builder.build_secret(
        wanted,
        Secret(TOKEN),
        Secret(certificate.private_key_pem.bytes().decode()),
        certificate.cert_chain_pems[0].bytes().decode(),
        papers.ca.read_text(),
    )
    kube.create("secrets", secret)
    pod = kube.create("pods", builder.build(wanted).pod)
    kube.ask("PATCH", kube.path("secrets", wanted.name), builder.owner_of(pod))
    return pod


def client(pod: Object, papers: Papers) -> PlaceClient:
    url = f"https://{pod['status']['podIP']}:8080"
    return PlaceClient(url, Secret(TOKEN), papers.daemon, pod["metadata"]["name"])


async def run(pod: Object, papers: Papers, script: str, run_id: str = "run-1") -> str:
    """What a script says in a place."""
    place = client(pod, papers)
    try:
        await place.start(run_id, script, env={}, cwd="/workspace")
        done = await place.wait(run_id)
        assert done.state is RunState.EXITED, done
        return (await place.output(run_id, 0)).data.decode()
    finally:
        await place.close()


async def test_a_pod_of_the_builder_is_cloned_started_used_and_deleted_without_a_trace(
    kube: Cluster, folder: Path
) -> None:
    papers = Papers(folder / "papers")
    create(
        kube, papers, plan(clone=Clone(url=repository(folder)), env={"GREETING": "cost $5 $(HOME)"})
    )
    pod = kube.until_ready(NAME)
    assert pod["status"]["phase"] == "Running"
    assert state(pod, "clone")["terminated"]["reason"] == "Completed"
    said = await run(
        pod,
        papers,
        'git log --format=%s; echo "$GREETING"; pwd; echo $HOME; touch ~/x /tmp/y; command -v claude oj',
    )
    assert said.splitlines()[:4] == ["first", "cost $5 $(HOME)", "/workspace", "/home/oj"]
    assert len(said.splitlines()) == 6
    pids = kube.pids()[NAME]
    assert pids
    assert not Path("/home/oj").exists() and not Path("/workspace").exists()
    kube.ask("DELETE", kube.path("pods", NAME))
    kube.until_gone(NAME)
    assert kube.list("secrets") == []
    until(lambda: not alive(pids), SECONDS, "its processes are gone")
    until(lambda: list((folder / "node").iterdir()) == [folder / "node" / "claims"], SECONDS, "its files are gone")  # fmt: skip


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]
