"""State folders as a daemon would have left them, made by the core and the log alone: no job is run.

Rule: every record is one turn of the real core through the real log. Live jobs wait for a second try that is far away, so
nothing runs when a daemon starts on such a folder.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from oj_daemon.core import events, machine
from oj_daemon.core.state import Policy, Resolved, State, Turn
from oj_daemon.runbook import load
from oj_daemon.runbook.model import content_hash
from oj_daemon.store.wal import Wal
from oj_daemon.wire.names import ID_ALPHABET, ID_LENGTH, JobId
from oj_daemon.wire.requests import RunCommand

RUNBOOK: Final = """\
command "one" { run = { job = "one" } }
command "three" { run = { job = "three" } }
command "later" { run = { job = "later" } }
job "one" {
  step "work" { run = "true" }
}
job "three" {
  step "make"  {
    run     = "true"
    on_done = { step = "test" }
  }
  step "test"  {
    run     = "true"
    on_done = { step = "ship" }
  }
  step "ship" { run = "true" }
}
job "later" {
  step "work" {
    run   = "false"
    retry = { attempts = 2, backoff = "1h" }
  }
}
"""
STEPS: Final = {"one": 1, "three": 3}
RECORDS: Final = {"one": 2, "three": 4}
"""Records of one finished job in the log."""
BATCH: Final = 5_000
PATIENCE: Final = 120.0


def make(state_dir: Path, *, finished: int, live: int = 0, kind: str = "one") -> Path:
    """A state folder with that many finished jobs and, newer, live ones; as log alone, without a snapshot."""
    state_dir.mkdir(mode=0o700, parents=True)
    state_dir.chmod(0o700)
    writer = _Writer(state_dir)
    try:
        for _ in range(finished):
            job_id = writer.order(kind)
            for run in range(1, STEPS[kind] + 1):
                writer.step_exited(job_id, run, 0)
        for _ in range(live):
            writer.step_exited(writer.order("later"), 1, 1)
    finally:
        writer.close()
    return state_dir


class _Writer:
    def __init__(self, state_dir: Path) -> None:
        self._state = State()
        self._policy = Policy(workspaces_dir=f"{state_dir}/workspaces", state_dir=str(state_dir))
        self._folder = str(state_dir)
        self._chance = random.Random(1)  # noqa: S311 - the same ids in each run
        self._encode = msgspec.json.Encoder().encode
        self._resolved = {name: _resolved(name) for name in ("one", "three", "later")}
        self._durable = threading.Event()
        self._waiting = 0
        self._wal = Wal.open(state_dir / "wal")
        for _ in self._wal.replay():
            pass
        self._wal.start(lambda _seq: self._durable.set(), lambda _error: self._durable.set())

    def order(self, command: str) -> JobId:
        request = RunCommand(
            project="bench",
            project_root="/bench",
            invoke_dir=self._folder,
            command=command,
            key=self._chance.randbytes(16).hex(),
        )
        turn = self._turn(self._resolved[command])
        facts = machine.admit(self._state, request, turn).facts
        self._record(facts, turn, "RunCommand")
        return next(fact.job_id for fact in facts if isinstance(fact, events.JobCreated))

    def step_exited(self, job_id: JobId, run: int, code: int) -> None:
        self._record(
            [events.StepExited(job_id=job_id, run=run, exit_code=code)], self._turn(), "#1"
        )

    def close(self) -> None:
        self._wal.close()

    def _turn(self, resolved: Resolved | None = None) -> Turn:
        now = time.time_ns() // 1_000_000
        return Turn(now=now, fresh=self._fresh, policy=self._policy, resolved=resolved)

    def _fresh(self, prefix: str) -> str:
        return prefix + "".join(self._chance.choices(ID_ALPHABET, k=ID_LENGTH))

    def _record(self, facts: list[events.AnyEvent], turn: Turn, cause: str) -> None:
        outcome = machine.perform(self._state, facts, turn)
        record = events.Record(at=turn.now, cause=cause, facts=tuple(outcome.facts))
        self._wal.append(self._encode(record))
        self._waiting += 1
        if self._waiting == BATCH:
            self._waiting = 0
            self._durable.clear()
            if not self._wal.commit():
                self._durable.wait(PATIENCE)


def _resolved(command: str) -> Resolved:
    """What the daemon would read out of the runbook for this command."""
    found = load.catalog({".oj/runbooks/bench.hcl": RUNBOOK}).find_command(command)
    return Resolved(
        runbook=found.runbook, hash=content_hash(found.runbook), command=found.definition
    )
