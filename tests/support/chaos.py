"""A daemon under load that is killed with SIGKILL at random moments, and the account that is drawn up afterwards.

Rule: the load acts only through the wire, like any client; the account compares what was acknowledged, what the ledger of the
steps says happened, and what the daemon believes. Everything random comes from one seed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from oj_daemon import settings
from oj_daemon.core.state import check
from oj_daemon.engine import _replay
from oj_daemon.errors import OjError
from oj_daemon.shell import ShellRuns
from oj_daemon.store.wal import Wal
from oj_daemon.wire.client import Client, RemoteError
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = r"""
job "fan" {
  source = "folder"
  step "init" {
    run     = "SAY; mkdir -p out"
    on_done = ["a", "b", "c"]
  }
  step "a" { run = "SAY; sleep 0.05; touch out/a; END" }
  step "b" { run = "SAY; sleep 0.02; touch out/b; END" }
  step "c" { run = "SAY; touch out/c; END" }
  step "end" {
    after = ["a", "b", "c"]
    run   = "SAY; ls out/a out/b out/c >/dev/null; END"
  }
}
job "flaky" {
  step "try" {
    run   = <<-BASH
      SAY
      n=$(cat "$LEDGER.$OJ_JOB_ID" 2>/dev/null || echo 0)
      echo $((n + 1)) >"$LEDGER.$OJ_JOB_ID"
      test $n -ge 2
      END
    BASH
    retry = { attempts = 3, backoff = "20ms" }
  }
}
job "fail" {
  on_fail = { step = "clean" }
  step "work"  { run = "SAY; sleep 0.02; exit 3" }
  step "clean" { run = "SAY; END" }
}
job "slow" {
  on_cancel = { step = "undo" }
  step "work" { run = "SAY; (setsid sleep 300 &) ; sleep 3; END" }
  step "undo" { run = "SAY; END" }
}
job "late" {
  locals = { when = "$(echo now)" }
  step "work" {
    run     = "SAY; sleep 30; END"
    timeout = "150ms"
    on_fail = { step = "after" }
  }
  step "after" { run = "SAY; test ${local.when} = now; END" }
}
"""
KINDS = ("fan", "flaky", "fail", "slow", "late")
LIVE = ("pending", "running", "ending", "waiting")


class Chaos:
    """One state folder, its daemon, its load and its account."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.state = folder / "s"
        self.ledger = folder / "ledger"
        self.ledger.touch()
        # Within HCL strings quotes are escaped, within here-documents they are not: so none are used.
        say = "echo line $OJ_STEP; echo $OJ_STEP start >>$LEDGER"
        end = "echo $OJ_STEP end >>$LEDGER"
        commands = "".join(f'command "{kind}" {{ run = {{ job = "{kind}" }} }}\n' for kind in KINDS)
        self.text = commands + RUNBOOK.replace("SAY", say).replace("END", end)
        self.text = self.text.replace("$LEDGER", str(self.ledger))
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "OJ_STATE_DIR": str(self.state),
            "PYTHONPATH": str(ROOT),
        }
        self.settings = settings.load(self.environ)
        self.daemon: subprocess.Popen[bytes] | None = None
        self.jobs: dict[str, str] = {}
        """Job id -> kind, of acknowledged runs."""
        self.cancelled: set[str] = set()
        self.keys: set[str] = set()
        self.errors: list[str] = []
        self.acknowledged: Counter[str] = Counter()
        self._stop = threading.Event()

    # The daemon

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        log = (self.folder / "daemon.out").open("ab")
        self.daemon = subprocess.Popen(
            [sys.executable, "-m", "oj_daemon"],
            env=self.environ,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        until(self._answers, 60, "the daemon answers")

    def _answers(self) -> bool:
        if self.daemon is not None and self.daemon.poll() is not None:
            raise AssertionError(
                f"the daemon ended: {(self.folder / 'daemon.out').read_text()[-3000:]}"
            )
        try:
            with Client(self.settings) as client:
                client.call("Ping")
        except OjError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()

    def stop(self) -> None:
        """SIGTERM, and the daemon's exit code must be 0."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            code = self.daemon.wait(60)
            assert code == 0, (self.folder / "daemon.out").read_text()[-3000:]

    # The load

    def load(self, number: int) -> threading.Thread:
        """One client that asks for things until `rest`."""
        thread = threading.Thread(
            target=self._client, args=(random.Random(self.random.random()), number)
        )
        thread.start()
        return thread

    def rest(self) -> None:
        """Let the load come to its end."""
        self._stop.set()

    def _client(self, chance: random.Random, number: int) -> None:
        try:
            count = 0
            while not self._stop.is_set():
                count += 1
                live = [job_id for job_id in list(self.jobs) if job_id not in self.cancelled]
                dice = chance.random()
                if dice < 0.5 or not live:
                    self._run(chance.choice(KINDS), f"{number}-{count}")
                elif dice < 0.7:
                    job_id = chance.choice(live)
                    reply = self._once("JobCancel", ids=[job_id])
                    if reply is not None:
                        self.cancelled.update(reply["cancelled"])
                elif dice < 0.85:
                    self._once("JobSuspend", ids=[chance.choice(live)])
                else:
                    self._once("JobResume", id=chance.choice(live))
                self._stop.wait(chance.random() * 0.05)
        except BaseException as error:
            self.errors.append(repr(error))
            raise

    def _run(self, kind: str, key: str) -> None:
        """Ask until the run is acknowledged; the key makes asking again safe."""
        self.keys.add(key)
        deadline = time.monotonic() + 120
        while True:
            reply = self._once(
                "RunCommand",
                project="chaos",
                project_root=str(self.folder),
                invoke_dir=str(self.folder),
                command=kind,
                sources={"files": [{"path": ".oj/runbooks/chaos.hcl", "text": self.text}]},
                key=key,
            )
            if reply is not None:
                self.jobs[reply["job_id"]] = kind
                return
            assert time.monotonic() < deadline, "no daemon acknowledges a run"
            self._stop.wait(0.02) if not self._stop.is_set() else threading.Event().wait(0.05)

    def _once(self, request: str, **fields: Any) -> dict[str, Any] | None:
        """One request; None when the connection broke or the daemon refused."""
        try:
            with Client(self.settings) as client:
                reply = client.call(request, **fields)
        except OjError as error:
            if (
                request == "RunCommand"
                and isinstance(error, RemoteError)
                and error.code != "unavailable"
            ):
                self.errors.append(f"{request}: {error.message}")
            return None
        self.acknowledged[request] += 1
        return reply

    def has_acknowledged(self, count: int) -> bool:
        """Whether the daemon has acknowledged so many requests."""
        return self.acknowledged.total() >= count

    # The account

    def settle(self) -> None:
        """Wait until no job is under way any more."""

        def quiet() -> bool:
            with Client(self.settings) as client:
                listed = client.call("JobList", limit=None)["jobs"]
            busy = [
                f"{each['id']} {each['kind']} {each['status']}: {each['reason']}"
                for each in listed
                if each["status"] in LIVE
            ]
            quiet.busy = busy  # type: ignore[attr-defined]
            return not busy

        until(quiet, 120, lambda: f"jobs are stuck: {getattr(quiet, 'busy', '')}")

    def account(self) -> None:
        """Compare what was acknowledged, what happened and what is believed; the daemon must be up, and is stopped."""
        assert not self.errors, self.errors
        with Client(self.settings) as client:
            listed = {each["id"]: each for each in client.call("JobList", limit=None)["jobs"]}
            details = {job_id: client.call("JobShow", id=job_id) for job_id in listed}
        lost = sorted(set(self.jobs) - set(listed))
        assert not lost, f"acknowledged and lost: {lost}"
        assert len(listed) == len(self.keys), (
            f"{len(self.keys)} runs were asked for, there are {len(listed)} jobs"
        )
        undone = {
            job_id: listed[job_id]["status"]
            for job_id in self.cancelled
            if listed[job_id]["status"] != "cancelled"
        }
        assert not undone, f"acknowledged cancels that did not happen: {undone}"
        for job_id, kind in self.jobs.items():
            if listed[job_id]["status"] == "completed":
                steps = Counter(
                    run["name"] for run in details[job_id]["steps"] if run["status"] == "completed"
                )
                expected = {
                    "fan": {"init", "a", "b", "c", "end"},
                    "flaky": {"try"},
                    "slow": {"work"},
                }[kind]
                assert set(steps) == expected, (kind, steps)
                assert max(steps.values()) == 1, f"{job_id}: a step was completed twice: {steps}"
        self._account_of_runs(details)
        self.stop()
        left = ShellRuns(self.state / "runs").survivors()
        assert not left, f"processes are left: {left}"
        wal = Wal.open(self.state / "wal")
        try:
            state, _ = _replay(wal, self.state / "snapshots", recover=False)
            problems = list(check(state))
        finally:
            wal.close()
        assert not problems, problems
        folders = [path for path in (self.state / "runs").iterdir() if path.is_dir()]
        assert not folders, f"run folders are left: {folders}"

    def _account_of_runs(self, details: dict[str, dict[str, Any]]) -> None:
        ledger = Counter(self.ledger.read_text().splitlines())
        twice = [line for line, count in ledger.items() if count > 1]
        assert not twice, f"ran twice: {twice}"
        for job_id, detail in details.items():
            text = Path(str(detail["log_path"])).read_text()
            printed = Counter(
                line.split("] ", 1)[1] for line in text.splitlines() if "] line " in line
            )
            repeated = [line for line, count in printed.items() if count > 1]
            assert not repeated, f"lines repeated in the log: {repeated}"
            instance = ShellRuns(self.state / "runs").instance
            for run in detail["steps"]:
                cookie = f"{instance}:{job_id}:{run['run']}"
                if run["status"] == "completed":
                    assert ledger[f"{cookie} start"] == 1, f"{cookie} is completed but never began"
                if ledger[f"{cookie} start"]:
                    assert printed[f"line {cookie}"] == 1, f"output of {cookie} is not in the log"


def torment(folder: Path, *, seed: int, kills: int, clients: int = 3) -> Counter[str]:
    """Kill the daemon so many times under load, then draw up the account; returns what was acknowledged."""
    chaos = Chaos(folder, seed)
    threads: list[threading.Thread] = []
    try:
        chaos.start()
        threads = [chaos.load(number) for number in range(clients)]
        for _ in range(kills):
            if (
                chaos.random.random() < 0.8
            ):  # else it dies while it is still picking up what the last one left
                more = chaos.acknowledged.total() + 1
                until(
                    partial(chaos.has_acknowledged, more),
                    60,
                    "the daemon acknowledges something",
                )
            moment = chaos.random.choice((0.002, 0.02, 0.1, 0.3)) * chaos.random.random()
            threading.Event().wait(moment)
            chaos.kill()
            chaos.start()
        chaos.rest()
        for thread in threads:
            thread.join(120)
        chaos.settle()
        chaos.account()
    finally:
        chaos.rest()
        for thread in threads:
            thread.join(120)
        chaos.kill()
    return chaos.acknowledged
