"""Rows about places in a cluster: P13, P14 and P15, against the API server of the tests.

Rule: the API server and its kubelet are processes of their own, ended by whoever started them. Times are those of the machine's
monotonic clock, which all processes share: a line of a watch counts from when the API server writes it.
"""

from __future__ import annotations

import contextlib
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from oj_bench.daemon import PATIENCE, Daemon
from oj_bench.harness import Bench, Result, RowError, percentile
from oj_daemon.adapters.kubernetes.runtime import WRITES_AT_ONCE, WRITES_PER_SECOND
from oj_daemon.wire.client import Client
from tests.support.kube.container import unsupported
from tests.support.kube.process import Cluster, KubeProcess

DELAY: Final = 0.02
"""Seconds that the API server takes for each request."""
GOAL_MS: Final = 100.0
WAITING: Final = """\
command "wait" { run = { job = "wait" } }
job "wait" {
  source = "folder"
  step "wait" { run = "exec sleep 3600" }
}
"""
SHARED: Final = ("GET pods", "WATCH pods")
"""What is asked once for all places."""

Job = Mapping[str, Any]
Kube = TypeVar("Kube", bound=KubeProcess)


# --- P13, P14 --------------------------------------------------------------------------------------------------------


def p14(bench: Bench) -> list[Result]:
    """So many places ordered at once: how fast they are made, and how often the API server is asked for each."""
    count = bench.rounds(200, 50)
    folder = bench.folder()
    with _ended(KubeProcess(folder)) as kube, _daemon(bench, folder, kube) as daemon:
        kube.fault("delay", seconds=DELAY)
        with daemon.client() as client:
            kube.forget_requests()
            before = daemon.cpu()
            jobs = [_order(client, folder) for _ in range(count)]
            _until(
                lambda: kube.counts()["POST pods"] >= count and len(kube.list("pods")) == count,
                "the places are made",
            )
            cpu = daemon.cpu() - before
            made = [each["at"] for each in kube.requests() if each["method"] == "POST"]
            client.call("JobCancel", ids=jobs)
            _until(lambda: kube.counts()["DELETE secrets/NAME"] >= count, "they are removed")
            _until(lambda: not kube.list("pods") and not kube.list("secrets"), "they are gone")
        counts = {what: number for what, number in kube.counts().items() if what not in SHARED}
    limit = len(made) / ((len(made) - WRITES_AT_ONCE) / WRITES_PER_SECOND)
    return [
        Result(
            row="P13",
            what=f"requests for each of {count} places, from order to deletion",
            other="one",
            unit="requests",
            ours_value=sum(counts.values()) / count,
            other_value=1.0,
            goal=6.0,
            note=", ".join(f"{what}: {number}" for what, number in sorted(counts.items())),
        ),
        Result(
            row="P14",
            what=f"writes per second for {count} places, an API of {DELAY * 1000:g} ms",
            other="the limit of the token bucket",
            unit="/s",
            ours_value=len(made) / (max(made) - min(made)),
            other_value=limit,
            goal=0.9,
            better="higher",
            note=f"{cpu / count * 1000:.1f} ms of CPU of the daemon for each place",
        ),
    ]


# --- P15 -------------------------------------------------------------------------------------------------------------


def p15(bench: Bench) -> list[Result]:
    """From a line of the watch to the news of a client that watches the job."""
    if reason := unsupported():
        raise RowError(reason)
    folder = bench.folder()
    with (
        _ended(Cluster(folder, is_direct=True)) as kube,
        _daemon(bench, folder, kube) as daemon,
        daemon.client() as client,
    ):
        waits = _waiting(kube, daemon, client, folder, bench.rounds(60, 20))
        killed = _dying(kube, daemon, client, folder, bench.rounds(20, 8), kube.kill)

        def lose(name: str) -> None:
            kube.freeze(name)  # its connections stay, and say nothing
            kube.set_status(name, {"phase": "Failed", "reason": "NodeLost"})

        lost = _dying(kube, daemon, client, folder, bench.rounds(10, 4), lose)
    return [
        _news("a place waits for something else", waits),
        _news("the pod of a step is killed", killed),
        _news("the node of a step is gone, its connections hang", lost),
    ]


def _news(what: str, seconds: Sequence[float]) -> Result:
    return Result(
        row="P15",
        what=f"{what}, p95 until a watching client is told",
        other="the time it may take",
        unit="ms",
        ours_value=percentile(seconds, 95) * 1000,
        other_value=GOAL_MS,
        goal=1.0,
        note=f"median {statistics.median(seconds) * 1000:.1f} ms of {len(seconds)}",
    )


def _waiting(
    kube: Cluster, daemon: Daemon, client: Client, folder: Path, rounds: int
) -> list[float]:
    """What a place waits for changes again and again."""
    kube.unschedulable()
    job = _order(client, folder)
    seconds = []
    with _Watcher(daemon, [job]) as watcher:
        seen = watcher.until(job, lambda seen: seen["workspace"] and seen["workspace"]["waits_for"])
        name = f"oj-{seen['workspace']['id']}"
        for number in range(rounds):
            text = f"0/1 nodes are available: reason number {number}."
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": text,
            }
            at = time.monotonic()
            kube.set_status(name, {"conditions": [condition]})
            watcher.until(job, lambda seen, text=text: text in str(seen["workspace"]))  # type: ignore[misc]
            seconds.append(watcher.heard[job] - _line(kube, name, at))
    client.call("JobCancel", ids=[job])
    kube.lift()
    _until(lambda: not kube.list("pods"), "the pod is gone")
    return seconds


def _dying(  # noqa: PLR0913, PLR0917 - a cluster, a daemon, and what is to happen
    kube: Cluster,
    daemon: Daemon,
    client: Client,
    folder: Path,
    rounds: int,
    happen: Callable[[str], None],
) -> list[float]:
    """Something happens to the pods of steps that run, one after another."""
    jobs = [_order(client, folder) for _ in range(rounds)]
    seconds = []
    with _Watcher(daemon, jobs) as watcher:
        for job in jobs:
            watcher.until(job, lambda seen: _is(seen, "running"))
        places = {job: watcher.until(job, _place)["workspace"]["place"] for job in jobs}
        for job in jobs:
            time.sleep(0.3)  # the step waits, and with it its output
            at = time.monotonic()
            happen(places[job])
            watcher.until(job, lambda seen: not _is(seen, "running"))
            seconds.append(watcher.heard[job] - _line(kube, places[job], at))
    client.call("JobCancel", ids=jobs)
    client.call("WorkspaceDrop", all=True)
    _until(lambda: not kube.list("pods"), "the pods are gone")
    return seconds


def _place(job: Job) -> object:
    return job["workspace"] and job["workspace"]["place"]


def _is(job: Job, status: str) -> bool:
    return bool(job["steps"]) and job["steps"][-1]["status"] == status


def _line(kube: KubeProcess, name: str, since: float) -> float:
    """When the first line about a pod was written after that moment."""
    return min(
        float(each["at"]) for each in kube.lines() if each["name"] == name and each["at"] > since
    )


class _Watcher:
    """A client that watches jobs, in a thread of its own."""

    def __init__(self, daemon: Daemon, jobs: Sequence[str]) -> None:
        self.heard: dict[str, float] = {}
        """When the news came that a job was waited to be like."""
        self._daemon = daemon
        self._jobs = list(jobs)
        self._seen: dict[str, tuple[float, Job]] = {}
        self._news = threading.Condition()
        self._is_over = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()

    def until(self, job: str, condition: Callable[[Job], object]) -> Job:
        """The job as soon as it is so."""
        with self._news:
            found = self._news.wait_for(
                lambda: (
                    self._failure is not None
                    or (job in self._seen and condition(self._seen[job][1]))
                ),
                PATIENCE,
            )
            if not found or self._failure is not None:
                message = f"{job} is not as it should be: {self._failure or self._seen.get(job)}"
                raise RowError(message)
            self.heard[job], seen = self._seen[job]
            return seen

    def _run(self) -> None:
        since = 0
        try:
            with self._daemon.client() as client:
                while not self._is_over:
                    reply = client.call("Watch", ids=self._jobs, since=since, wait_ms=1000)
                    at, since = time.monotonic(), reply["seq"]
                    with self._news:
                        self._seen |= {job["id"]: (at, job) for job in reply["details"]}
                        self._news.notify_all()
        except Exception as error:  # noqa: BLE001 - said by whoever waits
            with self._news:
                self._failure = error
                self._news.notify_all()


# --- what they share -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ended(kube: Kube) -> Iterator[Kube]:
    try:
        yield kube
    finally:
        kube.close()


def _daemon(bench: Bench, folder: Path, kube: KubeProcess) -> Daemon:
    return Daemon(
        bench,
        folder / "s",
        {
            "OJ_RUNTIME": "kubernetes",
            "OJ_LEASE": "off",
            "OJ_K8S_KUBECONFIG": str(kube.kubeconfig),
            "OJ_K8S_IMAGE": "registry.example.com/oj-agent:1",
            "OJ_K8S_MAX_PLACES": "1000",
        },
    )


def _order(client: Client, folder: Path) -> str:
    reply = client.call(
        "RunCommand",
        key=secrets.token_hex(8),
        project="bench",
        project_root=str(folder),
        invoke_dir=str(folder),
        command="wait",
        sources={"files": [{"path": ".oj/runbooks/bench.hcl", "text": WAITING}]},
    )
    return str(reply["job_id"])


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            message = f"not within {PATIENCE:g} s: {what}"
            raise RowError(message)
        time.sleep(0.25)
