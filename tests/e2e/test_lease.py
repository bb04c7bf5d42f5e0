"""Two daemons, one state folder: never two that act, and nothing acknowledged is lost, whatever becomes of either.

The daemons are real processes, elected by a Lease in a test API server that is a process too. Nothing is timed: what has to
happen is waited for, and what must not happen would show in the ledger that the steps write, in the log, or as a second holder.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from oj_daemon import settings
from oj_daemon.errors import OjError
from oj_daemon.store.segment import segment_names
from oj_daemon.store.wal import Wal
from oj_daemon.wire.client import Client
from tests.support.kube.process import KubeProcess
from tests.support.waiting import until
from tests.support.world import World

PATIENCE = 60.0
SHORT = {"OJ_LEASE_DURATION_MS": "6000", "OJ_LEASE_RENEW_MS": "4000", "OJ_LEASE_RETRY_MS": "300"}
LONG = {
    "OJ_LEASE_DURATION_MS": "600000",
    "OJ_LEASE_RENEW_MS": "400000",
    "OJ_LEASE_RETRY_MS": "300",
}
"""Nobody takes this over who just waits."""
GATE = "until [ -e ${invoke.dir}/go ]; do sleep 0.05; done"
NOTE = "echo $OJ_JOB_ID >>${invoke.dir}/ledger"
FIRST = "echo $OJ_JOB_ID-first >>${invoke.dir}/ledger"


class Daemon:
    """One daemon process, whether it acts or stands by."""

    def __init__(self, world: World, name: str, environ: dict[str, str]) -> None:
        self.name = name
        self.log = world.folder / f"{name}.log"
        self.err = world.folder / f"{name}.err"
        with self.log.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "oj_daemon"],
                env={**world.environ, **environ, "OJ_POD_NAME": name},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def says(self, text: str) -> None:
        """Wait until its log has this."""
        until(
            lambda: text in self.log.read_text() or self.process.poll() is not None,
            PATIENCE,
            lambda: f"{text!r} in {self.log.read_text()}",
        )
        assert text in self.log.read_text(), self.err.read_text()

    def ends(self) -> int:
        """Wait until it has ended; its exit code."""
        return self.process.wait(PATIENCE)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None


class Pair:
    """A world whose daemons are elected."""

    def __init__(self, world: World, kube: KubeProcess) -> None:
        self.world = world
        self.kube = kube
        self.daemons: list[Daemon] = []
        self.environ = {
            **SHORT,
            "OJ_PROFILE": "cluster",
            "OJ_RUNTIME": "local",
            "OJ_TCP_PORT": "off",
            "OJ_HTTP_PORT": "off",
            "OJ_LEASE": "on",
            "OJ_K8S_KUBECONFIG": str(kube.kubeconfig),
        }
        self._client = {**world.environ, "OJ_TIMEOUT_IPC_MS": "2000"}

    def start(self, name: str) -> Daemon:
        """Another daemon."""
        daemon = Daemon(self.world, name, self.environ)
        self.daemons.append(daemon)
        return daemon

    def acting(self, daemon: Daemon) -> dict[str, Any]:
        """Wait until this daemon is the one that answers; its status."""
        found: dict[str, Any] = {}

        def answers() -> bool:
            with contextlib.suppress(OjError):
                found.update(self.call("DaemonStatus"))
            return found.get("pid") == daemon.process.pid

        until(answers, PATIENCE, lambda: f"{daemon.name} acts: {daemon.err.read_text()}", 0.1)
        return found

    def started(self) -> tuple[Daemon, Daemon]:
        """A daemon that acts, and one that stands by."""
        first = self.start("oj-0")
        self.acting(first)
        second = self.start("oj-1")
        second.says("standing by: the Lease default/oj-daemon is held by oj-0_")
        return first, second

    def call(self, type: str, **fields: Any) -> dict[str, Any]:  # noqa: A002 - the wire's word
        with Client(settings.load(self._client)) as client:
            return client.call(type, **fields)

    def submit(self, command: str) -> str:
        """Start a job; returns its id once a daemon has acknowledged it."""
        book = self.world.project / ".oj" / "runbooks" / "main.hcl"
        acknowledged: list[str] = []

        def submitted() -> bool:
            with contextlib.suppress(OjError):
                reply = self.call(
                    "RunCommand",
                    project=self.world.project.name,
                    project_root=str(self.world.project),
                    invoke_dir=str(self.world.project),
                    command=command,
                    sources={
                        "files": [{"path": ".oj/runbooks/main.hcl", "text": book.read_text()}]
                    },
                )
                acknowledged.append(str(reply["job_id"]))
            return bool(acknowledged)

        until(submitted, PATIENCE, f"{command} is acknowledged", 0.1)
        return acknowledged[0]

    @contextlib.contextmanager
    def submitting(self) -> Iterator[list[str]]:
        """Start jobs all the while; gives the ids of those that were acknowledged."""
        acknowledged: list[str] = []
        enough = threading.Event()

        def go_on() -> None:
            while not enough.is_set():
                acknowledged.append(self.submit("build"))

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield acknowledged
        finally:
            enough.set()
            thread.join(2 * PATIENCE)
            assert not thread.is_alive()

    def ledger(self) -> list[str]:
        path = self.world.project / "ledger"
        return path.read_text().split() if path.exists() else []

    def all_done(self, ids: list[str]) -> None:
        """Wait until these jobs have completed; each of them, and any other, did each step once."""
        until(lambda: set(ids) <= set(self.ledger()), PATIENCE, "every job is done")
        with Client(settings.load(self._client)) as client:
            for job_id in ids:
                until(
                    lambda: client.call("JobShow", id=job_id)["status"] == "completed",  # noqa: B023
                    PATIENCE,
                    f"{job_id} has completed",
                )
        counts = Counter(self.ledger())
        assert set(counts.values()) == {1}, counts

    def log_is_whole(self) -> list[str]:
        """With all daemons ended: the log reads to its end; returns its segments' names."""
        assert not any(daemon.is_running for daemon in self.daemons)
        folder = self.world.state / "wal"
        names = segment_names(folder)
        for name in names:
            # The number that begins each line is also the order: two writers in one file would break it.
            lines = (folder / name).read_bytes().splitlines()
            numbers = [int(line.split(b" ", 2)[1]) for line in lines[1:]]
            assert numbers == sorted(set(numbers)), name
        wal = Wal.open(folder)
        list(wal.replay(after_seq=10**9))
        wal.close()
        return names

    def close(self) -> None:
        """End every daemon, and let go of the steps that wait."""
        go(self)
        for daemon in self.daemons:
            if daemon.is_running:
                daemon.send(signal.SIGCONT)
                daemon.process.kill()
                daemon.process.wait()


@pytest.fixture
def pair(world: World) -> Iterator[Pair]:
    kube = KubeProcess(world.folder)
    made = Pair(world, kube)
    world.runbook(f"""
        command "build" {{ run = {{ job = "build" }} }}
        job "build" {{
          step "first" {{
            run     = "{FIRST}"
            on_done = {{ step = "then" }}
          }}
          step "then" {{ run = "{NOTE}" }}
        }}
        command "gated" {{ run = {{ job = "gated" }} }}
        job "gated" {{
          step "wait" {{
            run     = "{GATE}; echo opened"
            on_done = {{ step = "then" }}
          }}
          step "then" {{ run = "{NOTE}" }}
        }}
    """)
    try:
        yield made
    finally:
        made.close()
        kube.close()


def go(pair: Pair) -> None:
    (pair.world.project / "go").touch()


def test_status_and_log_tell_who_holds_the_lease(pair: Pair) -> None:
    first = pair.start("oj-0")
    status = pair.acting(first)
    (holder,) = [choice for choice in status["settings"] if choice["name"] == "lease_holder"]
    assert holder["value"] == pair.kube.lease()["spec"]["holderIdentity"]
    assert holder["value"].startswith("oj-0_")
    assert holder["reason"] == "Lease default/oj-daemon, which changed hands 0 times"
    shown = pair.world.oj("daemon", "status").out
    assert holder["value"] in shown
    line = json.loads(first.log.read_text().splitlines()[0])
    assert line["message"].startswith("oj daemon ")
    assert "lease=on (OJ_LEASE)" in line["message"]


def test_after_kill_9_of_the_holder_the_standby_takes_over_and_finishes_the_job(
    pair: Pair,
) -> None:
    first, second = pair.started()
    job_id = pair.submit("gated")
    pair.world.until_running(job_id, "wait")
    with pair.submitting() as acknowledged:
        until(lambda: len(acknowledged) >= 3, PATIENCE, "some jobs")
        first.process.kill()
        status = pair.acting(second)
        before = len(acknowledged)
        until(lambda: len(acknowledged) >= before + 3, PATIENCE, "some more jobs")
    assert status["epoch"] == 2
    assert pair.kube.lease()["spec"]["leaseTransitions"] == 1
    go(pair)
    pair.all_done([job_id, *acknowledged])
    second.send(signal.SIGTERM)
    assert second.ends() == 0
    assert len(pair.log_is_whole()) >= 1


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_holder_that_was_stopped_for_too_long_ends_as_soon_as_it_goes_on_and_does_nothing(
    pair: Pair,
) -> None:
    first, second = pair.started()
    job_id = pair.submit("gated")
    pair.world.until_running(job_id, "wait")
    with pair.submitting() as acknowledged:
        until(lambda: len(acknowledged) >= 3, PATIENCE, "some jobs")
        first.send(signal.SIGSTOP)
        pair.acting(second)
        before = len(acknowledged)
        until(lambda: len(acknowledged) >= before + 3, PATIENCE, "some more jobs")
        go(pair)  # both know this step: it ends while the first one is stopped
        pair.world.finish(job_id)
        old = {
            path: path.read_bytes() for path in (pair.world.state / "wal").glob("00000001-*.jsonl")
        }
        logs = pair.world.log(job_id)
        first.send(signal.SIGCONT)
        assert first.ends() == 1
        before = len(acknowledged)
        until(lambda: len(acknowledged) >= before + 3, PATIENCE, "some more jobs")
    assert "was not renewed for 4 s" in first.log.read_text()
    assert "Traceback" not in first.err.read_text() + first.log.read_text()
    for path, content in old.items():
        assert path.read_bytes() == content
    assert pair.world.log(job_id) == logs
    pair.all_done([job_id, *acknowledged])
    assert pair.acting(second)["warnings"] == []
    assert pair.world.daemon_pid == second.process.pid
    second.send(signal.SIGTERM)
    assert second.ends() == 0
    pair.log_is_whole()


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_without_the_api_server_the_holder_ends_and_nobody_acts_until_it_is_back(
    pair: Pair,
) -> None:
    first, second = pair.started()
    job_id = pair.submit("gated")
    pair.world.until_running(job_id, "wait")
    pair.kube.fault("down")
    assert first.ends() == 1
    assert "was not renewed for 4 s" in first.log.read_text()
    go(pair)
    asked = len(pair.kube.requests())
    # Longer than the Lease lasts: the one who waits asks about every 0.33 s, twice each time.
    until(lambda: len(pair.kube.requests()) >= asked + 50, PATIENCE, "the other one asks", 0.1)
    with pytest.raises(OjError):
        pair.call("DaemonStatus")
    assert pair.ledger() == []
    assert second.is_running
    pair.kube.heal()
    pair.acting(second)
    pair.all_done([job_id, pair.submit("build")])


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_whatever_becomes_of_holders_again_and_again_every_job_is_done_once(pair: Pair) -> None:
    chance = random.Random(20261128)
    acting, waiting = pair.started()
    stopped: list[Daemon] = []
    fates = ["kill", "stop", "cut off", "end"] * 4
    chance.shuffle(fates)
    with pair.submitting() as acknowledged:
        for number, fate in enumerate(fates):
            before = len(acknowledged)
            until(lambda: len(acknowledged) > before, PATIENCE, "a job is acknowledged")  # noqa: B023
            match fate:
                case "kill":
                    acting.process.kill()
                case "stop":
                    acting.send(signal.SIGSTOP)
                    stopped.append(acting)
                case "cut off":
                    pair.kube.fault("down")
                    assert acting.ends() == 1
                    pair.kube.heal()
                case _:
                    acting.send(signal.SIGTERM)
            pair.acting(waiting)
            for daemon in stopped:
                daemon.send(signal.SIGCONT)
                assert daemon.ends() == 1
            stopped.clear()
            acting, waiting = waiting, pair.start(f"oj-{number + 2}")
            waiting.says("standing by")
    pair.all_done(acknowledged)
    assert pair.kube.lease()["spec"]["leaseTransitions"] == len(fates)
    for daemon in (waiting, acting):
        daemon.send(signal.SIGTERM)
        assert daemon.ends() == 0
    pair.log_is_whole()


def test_an_api_server_that_is_away_for_a_moment_is_not_noticed(pair: Pair) -> None:
    pair.environ.update(LONG)
    first, second = pair.started()
    job_id = pair.submit("gated")
    pair.kube.fault("down", times=6)
    asked = len(pair.kube.requests())
    until(lambda: len(pair.kube.requests()) > asked + 12, PATIENCE, "it was away", 0.1)
    renewed = pair.kube.lease()["spec"]["renewTime"]
    until(lambda: pair.kube.lease()["spec"]["renewTime"] != renewed, PATIENCE, "a renewal", 0.1)
    go(pair)
    pair.all_done([job_id])
    assert first.is_running
    assert second.is_running
    assert pair.acting(first)["epoch"] == 1
    assert pair.kube.lease()["spec"]["leaseTransitions"] == 0


def test_a_clean_end_hands_over_at_once(pair: Pair) -> None:
    pair.environ.update(LONG)
    first, second = pair.started()
    job_id = pair.submit("gated")
    pair.world.until_running(job_id, "wait")
    first.send(signal.SIGTERM)
    assert first.ends() == 0
    pair.acting(second)
    go(pair)
    pair.all_done([job_id])


def test_a_standby_ends_at_once_and_has_touched_nothing(pair: Pair) -> None:
    pair.environ.update(LONG)
    first, second = pair.started()
    before = sorted(path.name for path in pair.world.state.iterdir())
    assert pair.world.daemon_pid == first.process.pid
    second.send(signal.SIGTERM)
    assert second.ends() == 0
    assert "ended while standing by" in second.log.read_text()
    assert sorted(path.name for path in pair.world.state.iterdir()) == before
    assert pair.acting(first)["epoch"] == 1


def test_a_daemon_that_may_not_use_the_lease_ends_with_the_cause(pair: Pair) -> None:
    pair.kube.fault("status", status=403)
    daemon = pair.start("oj-0")
    assert daemon.ends() == 1
    assert "OJ_LEASE=on: GET /apis/coordination.k8s.io/v1/" in daemon.log.read_text()
    assert daemon.err.read_text() == ""
    assert not pair.world.state.exists()


@pytest.mark.timeout(300)
def test_on_a_workstation_the_daemon_that_opens_the_log_second_replaces_the_first(
    pair: Pair,
) -> None:
    pair.environ = {"OJ_FILE_LOCK": "off"}
    first = pair.start("one")
    pair.acting(first)
    job_id = pair.submit("gated")
    pair.world.until_running(job_id, "wait")
    second = pair.start("two")
    pair.acting(second)
    assert first.ends() == 1
    assert "no longer owns the log" in first.err.read_text()
    assert "belongs to a newer daemon" in first.err.read_text()
    go(pair)
    pair.all_done([job_id, pair.submit("build")])
    assert pair.acting(second)["epoch"] == 2
    assert pair.world.daemon_pid == second.process.pid
