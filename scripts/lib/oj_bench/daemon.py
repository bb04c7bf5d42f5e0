"""A daemon of the bench's own: started on a folder of its own, looked at, and ended.

Rule: whoever starts one ends it, by its pid, whatever happens; nothing of the caller's environment that names a daemon or a
state folder reaches it.
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from oj_bench.harness import Bench, RowError
from oj_daemon import settings
from oj_daemon.wire.client import Client

PATIENCE: Final = 180.0
"""Seconds after which a daemon that is not ready, or does not end, is given up on."""
TICKS: Final = os.sysconf("SC_CLK_TCK")


class Daemon:
    """One running daemon; `more` is what its environment has besides."""

    def __init__(self, bench: Bench, state: Path, more: Mapping[str, str] | None = None) -> None:
        self.state = state
        self.env = {**environment(bench, state), **(more or {})}
        self.settings = settings.load(self.env)
        self._python = bench.python
        self._root = bench.root
        self._errors = state.parent / f"{state.name}.err"
        self._process: subprocess.Popen[bytes] | None = None
        self.start_seconds = 0.0
        """From the start of the process to READY."""
        self.start_cpu = 0.0
        """Seconds of CPU until then."""

    def __enter__(self) -> Daemon:
        began = time.perf_counter()
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [self._python, "-m", "oj_daemon"],
                env=self.env,
                cwd=self._root,  # so that it is this checkout's
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        try:
            self._await_ready()
        except BaseException:
            self.kill()
            raise
        self.start_seconds = time.perf_counter() - began
        self.start_cpu = cpu_of(self.pid)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None  # noqa: S101 - entered
        return self._process.pid

    def _await_ready(self) -> None:
        assert self._process is not None  # noqa: S101 - just started
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        fd = self._process.stdout.fileno()
        if not select.select([fd], [], [], PATIENCE)[0] or os.read(fd, 64) != b"READY\n":
            message = f"the daemon did not start: {self._errors.read_text()[-500:].strip()}"
            raise RowError(message)

    def stop(self) -> None:
        """SIGTERM: it writes a snapshot and ends; SIGKILL where it does not."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: it leaves its folder as it is."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        self._process = None
        process.send_signal(number)
        try:
            process.wait(PATIENCE)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def client(self) -> Client:
        """A connection."""
        return Client(self.settings)

    def cpu(self) -> float:
        """Seconds of CPU that the daemon itself has used."""
        return cpu_of(self.pid)

    def children_cpu(self) -> float:
        """Seconds of CPU of all children that it has collected, to the nearest tick."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / TICKS

    def memory(self) -> int:
        """Bytes of memory that it holds (RSS)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        message = "this system does not tell the memory of a process"
        raise RowError(message)


def environment(bench: Bench, state: Path) -> dict[str, str]:
    """The environment of a daemon of this state folder, and of those who talk to it."""
    kept = {
        name: value
        for name, value in bench.environment().items()
        if not name.startswith(("OJ_", "KUBERNETES_"))
    }
    return {**kept, "OJ_STATE_DIR": str(state)}


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process, without its children: to the nanosecond where the kernel tells."""
    try:
        tasks = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        return sum(int(text.split()[0]) for text in tasks) / 1e9
    except OSError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def copy_state(source: Path, target: Path) -> Path:
    """A copy of a state folder whose daemon has ended. Its files are never changed in place, so the log is linked."""
    shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns("*.sock"))
    return target


def _link(source: str, target: str) -> str:
    if source.endswith((".jsonl", ".zst")):
        os.link(source, target)
    else:
        shutil.copy2(source, target)
    return target


class Jobs:
    """Runs one-step jobs over one connection."""

    def __init__(self, client: Client, folder: Path, text: str, command: str) -> None:
        self._client = client
        self._since = 0
        self._unfinished: set[str] = set()
        self._fields: dict[str, Any] = {
            "project": "bench",
            "project_root": str(folder),
            "invoke_dir": str(folder),
            "command": command,
            "sources": {"files": [{"path": ".oj/runbooks/bench.hcl", "text": text}]},
        }

    def run(self, count: int, *, at_once: int) -> None:
        """Order so many jobs, one request each, with at most `at_once` unfinished, and wait for the last."""
        for _ in range(count):
            self._wait(at_once - 1)
            self._unfinished.add(self.order())
        self._wait(0)

    def order(self) -> str:
        """Order one job; its id, once it is on disk."""
        reply = self._client.call("RunCommand", key=secrets.token_hex(8), **self._fields)
        return str(reply["job_id"])

    def finish(self, ids: Sequence[str]) -> None:
        """Wait until these jobs are completed."""
        self._unfinished.update(ids)
        self._wait(0)

    def _wait(self, left: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while len(self._unfinished) > left:
            reply = self._client.call("Watch", ids=sorted(self._unfinished), since=self._since)
            self._since = reply["seq"]
            for job in reply["details"]:
                if job["status"] == "completed":
                    self._unfinished.discard(job["id"])
                elif job["status"] not in ("pending", "running"):
                    message = f"a job of the bench is {job['status']}: {job['reason']}"
                    raise RowError(message)
            if time.monotonic() > deadline:
                message = f"{len(self._unfinished)} jobs did not finish within {PATIENCE:g} s"
                raise RowError(message)
