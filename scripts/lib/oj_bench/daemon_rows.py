"""Rows that need a running daemon: P1, P3, P7, P8, P9 and P17 (P5 is in job_rows.py).

Rule: each row starts daemons of its own on fresh state folders and ends them, whatever happens. A warm daemon is one that has
answered before; how many jobs its state holds is part of the row's name.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from oj_bench import log_rows, states
from oj_bench.daemon import Daemon, Jobs, copy_state, cpu_of, environment
from oj_bench.harness import (
    Bench,
    Result,
    RowError,
    Sample,
    compare_commands,
    cpu,
    interleave,
    percentile,
    timed_command,
    wall,
)

IMPORT_CLICK: Final = "python -c 'import click'"
MARK: Final = "the first line"
"""What the step of P3 prints."""
HELLO: Final = f"""\
command "hello" {{ run = {{ job = "hello" }} }}
job "hello" {{
  step "say" {{ run = "echo '{MARK}'" }}
}}
"""
LOADS_LOG: Final = """\
import json, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).glob("wal/*.jsonl")):
    with path.open("rb") as file:
        for line in file:
            json.loads(line.split(b" ", 2)[2])
"""
LOADS_SNAPSHOT: Final = """\
import json, pathlib, sys
import zstandard
for path in pathlib.Path(sys.argv[1]).glob("snapshots/*.zst"):
    body = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    for line in body.splitlines():
        json.loads(line)
"""


# --- P1, P1b ---------------------------------------------------------------------------------------------------------


def p1(bench: Bench) -> list[Result]:
    """`oj status` and `oj job list` against a warm daemon: output thrown away, then on a terminal."""
    state = states.make(bench.folder() / "s", finished=100, live=5)
    with Daemon(bench, state) as daemon:
        env = {**daemon.env, "TERM": "xterm-256color"}
        floor = [bench.python, "-c", "import click"]
        words = {"oj status": ["status"], "oj job list": ["job", "list"]}
        piped = {
            IMPORT_CLICK: timed_command(floor, env),
            **{name: timed_command([bench.oj, *args], env) for name, args in words.items()},
        }
        on_terminal = {
            IMPORT_CLICK: _on_terminal(floor, env),
            **{
                f"{name} on a terminal": _on_terminal([bench.oj, *args], env)
                for name, args in words.items()
            },
        }
        rounds = bench.rounds(41, 7)
        results = compare_commands("P1", interleave(piped, rounds), floor=IMPORT_CLICK, goal=1.35)
        if kubectl := _kubectl(env):
            on_terminal["kubectl get pods"] = kubectl
        taken = interleave(on_terminal, rounds)
        pods = taken.pop("kubectl get pods", None)
        results += compare_commands("P1b", taken, floor=IMPORT_CLICK, goal=2.0)
        if pods is not None:
            name = "oj job list on a terminal"
            both = {name: taken[name], "kubectl get pods": pods}
            results += compare_commands("P1b", both, floor="kubectl get pods", goal=0.9)
    return results


def _kubectl(env: Mapping[str, str]) -> Callable[[], Sample] | None:
    """`kubectl get pods`, where a cluster answers."""
    argv = ["kubectl", "get", "pods", "--request-timeout=2s"]
    if shutil.which(argv[0]) is None:
        return None
    if subprocess.run(argv, env=dict(env), check=False, capture_output=True).returncode:
        return None
    return _on_terminal(argv, env)


def _on_terminal(argv: Sequence[str], env: Mapping[str, str]) -> Callable[[], Sample]:
    """A contender that runs a program on a terminal of its own, which is read to its end."""

    def run() -> Sample:
        ours, theirs = os.openpty()
        began = time.perf_counter()
        try:
            pid = os.posix_spawnp(
                argv[0],
                list(argv),
                dict(env),
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs, fd) for fd in (0, 1, 2)],
            )
        finally:
            os.close(theirs)
        # EIO is how a terminal says that nobody holds its other end any more.
        with contextlib.suppress(OSError):
            while os.read(ours, 1 << 16):
                pass
        _, status, usage = os.wait4(pid, 0)
        taken = time.perf_counter() - began
        os.close(ours)
        if code := os.waitstatus_to_exitcode(status):
            message = f"`{' '.join(argv)}` ended with {code} on a terminal"
            raise RowError(message)
        return Sample(taken, usage.ru_utime + usage.ru_stime)

    return run


# --- P3 --------------------------------------------------------------------------------------------------------------


def p3(bench: Bench) -> list[Result]:
    """`oj run` until the first line of the step's output, in CPU of client, daemon and step."""
    project = bench.folder()
    (project / ".oj" / "runbooks").mkdir(parents=True)
    (project / ".oj" / "runbooks" / "hello.hcl").write_text(HELLO)
    rounds = bench.rounds(31, 5)
    with Daemon(bench, states.make(bench.folder() / "s", finished=100, live=5)) as daemon:
        children = -1.0

        def run() -> Sample:
            nonlocal children
            if children < 0:
                children = daemon.children_cpu()
            return _until_first_line([bench.oj, "-C", str(project), "run", "hello"], daemon)

        def status() -> Sample:
            before = daemon.cpu()
            sample = timed_command([bench.oj, "status"], daemon.env)()
            return Sample(sample.wall, sample.cpu + daemon.cpu() - before)

        taken = interleave(
            {
                "run": run,
                "status": status,
                "bash": timed_command(["bash", "-c", "true"], daemon.env),
            },
            rounds,
        )
        step = (daemon.children_cpu() - children) / (rounds + 1)
    beside = cpu(taken["status"]) + cpu(taken["bash"])
    ours = cpu(taken["run"]) + step
    return [
        Result(
            row="P3",
            what="oj run until the first line, CPU",
            other="oj status + bash -c true + 25 ms",
            unit="ms",
            ours_value=ours * 1000,
            other_value=(beside + 0.025) * 1000,
            goal=1.0,
            note=f"{(ours - beside) * 1000:+.1f} ms",
        ),
        Result(
            row="P3",
            what="oj run until the first line, clock",
            other="oj status + bash -c true",
            unit="ms",
            ours_value=wall(taken["run"]) * 1000,
            other_value=(wall(taken["status"]) + wall(taken["bash"])) * 1000,
        ),
    ]


def _until_first_line(argv: Sequence[str], daemon: Daemon) -> Sample:
    """Clock and CPU of client and daemon until the client has printed the step's line."""
    before = daemon.cpu()
    began = time.perf_counter()
    process = subprocess.Popen(
        argv, env=daemon.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        seen = b""
        while MARK.encode() not in seen:
            ready, _, _ = select.select([process.stdout], [], [], 60)
            piece = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not piece:
                message = f"`{' '.join(argv)}` did not show its output: {seen[-300:]!r}"
                raise RowError(message)
            seen += piece
        taken = time.perf_counter() - began
        used = cpu_of(process.pid) + daemon.cpu() - before
        while os.read(process.stdout.fileno(), 1 << 16):
            pass
    finally:
        process.kill()
        process.communicate()
    return Sample(taken, used)


# --- P7 --------------------------------------------------------------------------------------------------------------


def p7(bench: Bench) -> list[Result]:
    """One acknowledged write: by the log alone, then as a request through the socket."""
    results = log_rows.p7(bench)
    count = bench.rounds(1_000, 100)
    with (
        Daemon(bench, states.make(bench.folder() / "s", finished=100, live=count + 20)) as daemon,
        _Floor(bench) as floor,
    ):
        ours, other = _cancels(daemon, floor, count)
        ordered = _orders(daemon, floor, bench.rounds(200, 30))
    return [
        *results,
        *_write_lines("a job cancelled over the socket", ours, other, goal=3),
        *_write_lines("oj run's request over the socket", *ordered, goal=None),
    ]


class _Floor:
    """A file to which a record is appended and synced."""

    def __init__(self, bench: Bench) -> None:
        self._path = bench.folder() / "plain"
        self._fd = -1

    def __enter__(self) -> _Floor:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write(self) -> float:
        """Seconds for one append and its sync."""
        began = time.perf_counter()
        os.write(self._fd, log_rows.PAYLOAD)
        os.fdatasync(self._fd)
        return time.perf_counter() - began


def _cancels(daemon: Daemon, floor: _Floor, count: int) -> tuple[list[float], list[float]]:
    """Seconds of so many cancels of jobs that only wait, and of as many plain writes."""
    ours: list[float] = []
    other: list[float] = []
    with daemon.client() as client:
        live = client.call("JobList", status="pending", limit=count + 20)["jobs"]
        if len(live) < count + 20:
            message = f"{count + 20} live jobs were made, {len(live)} are to be seen"
            raise RowError(message)
        for number, job in enumerate(live):
            began = time.perf_counter()
            reply = client.call("JobCancel", ids=[job["id"]])
            took = time.perf_counter() - began
            if not reply["cancelled"]:
                message = f"job {job['id']} was not cancelled"
                raise RowError(message)
            plain = floor.write()
            if number >= 20:
                ours.append(took)
                other.append(plain)
    return ours, other


def _orders(daemon: Daemon, floor: _Floor, count: int) -> tuple[list[float], list[float]]:
    """Seconds until so many one-step jobs were on record, each ordered when the one before was done."""
    ours: list[float] = []
    other: list[float] = []
    with daemon.client() as client:
        jobs = Jobs(client, daemon.state, states.RUNBOOK, "one")
        for number in range(count + 5):
            began = time.perf_counter()
            job_id = jobs.order()
            took = time.perf_counter() - began
            jobs.finish([job_id])
            plain = floor.write()
            if number >= 5:
                ours.append(took)
                other.append(plain)
    return ours, other


def _write_lines(
    what: str, ours: Sequence[float], other: Sequence[float], *, goal: float | None
) -> list[Result]:
    return [
        Result(
            row="P7",
            what=f"{what}, p{percent}",
            other="append + fdatasync",
            unit="us",
            ours_value=percentile(ours, percent) * 1e6,
            other_value=percentile(other, percent) * 1e6,
            goal=goal if percent == 50 else None,
        )
        for percent in (50, 99)
    ]


# --- P8 --------------------------------------------------------------------------------------------------------------


def p8(bench: Bench) -> list[Result]:
    """From the start of the process to READY, beside a process that only parses the same bytes."""
    finished, live = (bench.rounds(10_000, 1_000), bench.rounds(200, 20))
    records = bench.rounds(200_000, 20_000)
    behind_snapshot = states.make(bench.folder() / "s", finished=finished, live=live, kind="three")
    with Daemon(bench, behind_snapshot):
        pass  # it ends with a snapshot
    log_alone = states.make(
        bench.folder() / "s", finished=records // states.RECORDS["three"], kind="three"
    )
    return [
        _restart(
            bench,
            behind_snapshot,
            f"start, {finished:,} finished and {live} live jobs in a snapshot",
            LOADS_SNAPSHOT,
        ),
        _restart(bench, log_alone, f"start, {records:,} log records, no snapshot", LOADS_LOG),
    ]


def _restart(bench: Bench, state: Path, what: str, loads: str) -> Result:
    env = environment(bench, state)

    def start() -> Sample:
        copy = copy_state(state, bench.folder() / "s")
        daemon = Daemon(bench, copy)
        with daemon:
            sample = Sample(daemon.start_seconds, daemon.start_cpu)
            daemon.kill()
        shutil.rmtree(copy.parent)
        return sample

    taken = interleave(
        {
            "ours": start,
            "loads": timed_command([bench.python, "-c", loads, str(state)], env),
        },
        bench.rounds(7, 2),
    )
    return Result(
        row="P8",
        what=what,
        other="python, json.loads of the same bytes",
        unit="ms",
        ours_value=wall(taken["ours"]) * 1000,
        other_value=wall(taken["loads"]) * 1000,
        goal=2.0,
        cpu_ratio=cpu(taken["ours"]) / cpu(taken["loads"]),
    )


# --- P9 --------------------------------------------------------------------------------------------------------------


def p9(bench: Bench) -> list[Result]:
    """Memory of an idle daemon, and what a finished job adds to it."""
    count = bench.rounds(10_000, 500)
    folder = bench.folder()
    with Daemon(bench, folder / "s") as daemon:
        with daemon.client() as client:
            client.call("StatusOverview")
        at_start = daemon.memory()
        with daemon.client() as client:
            jobs = Jobs(client, folder, states.RUNBOOK, "one")
            # The first lot also pays for what is loaded on first use and for what the allocator keeps for later.
            jobs.run(count, at_once=8)
            first = daemon.memory()
            jobs.run(count, at_once=8)
            second = daemon.memory()

    return [
        Result(
            row="P9",
            what="memory of an idle daemon at start",
            other="the limit",
            unit="MB",
            ours_value=at_start / 2**20,
            other_value=55,
            goal=1.0,
        ),
        Result(
            row="P9",
            what=f"memory for each of {count:,} more finished jobs",
            other="the limit",
            unit="KB",
            ours_value=(second - first) / count / 1024,
            other_value=4,
            goal=1.0,
            note=f"{(first - at_start) / count / 1024:.1f} KB for each of the first {count:,}",
        ),
    ]


# --- P17 -------------------------------------------------------------------------------------------------------------


def p17(bench: Bench) -> list[Result]:
    """P1, P5 and P7 with more and more finished jobs in the state, beside the same with 100."""
    sizes = (100, 1_000, 10_000) if bench.quick else (100, 1_000, 10_000, 100_000)
    with contextlib.ExitStack() as stack:
        floor = stack.enter_context(_Floor(bench))
        daemons: dict[int, Daemon] = {}
        for size in sizes:
            state = states.make(bench.folder() / "s", finished=size, live=5)
            with Daemon(bench, state):
                pass  # it ends with a snapshot
            daemons[size] = stack.enter_context(Daemon(bench, state))
        results = []
        for what, kind, rounds in (
            ("oj status", _command(bench, "status"), bench.rounds(21, 5)),
            ("oj job list", _command(bench, "job", "list"), bench.rounds(21, 5)),
            ("100 one-step jobs", _hundred_jobs, bench.rounds(5, 2)),
            (
                "one acknowledged write",
                lambda daemon: _ten_orders(daemon, floor),
                bench.rounds(15, 3),
            ),
        ):
            taken = interleave(
                {str(size): kind(daemon) for size, daemon in daemons.items()}, rounds
            )
            results += _growth(what, {size: wall(taken[str(size)]) for size in sizes})
    return results


def _command(bench: Bench, *words: str) -> Callable[[Daemon], Callable[[], Sample]]:
    return lambda daemon: timed_command([bench.oj, *words], daemon.env)


def _hundred_jobs(daemon: Daemon) -> Callable[[], Sample]:
    def run() -> Sample:
        began, cpu_began = time.perf_counter(), daemon.cpu()
        with daemon.client() as client:
            Jobs(client, daemon.state, states.RUNBOOK, "one").run(100, at_once=2)
        return Sample(time.perf_counter() - began, daemon.cpu() - cpu_began)

    return run


def _ten_orders(daemon: Daemon, floor: _Floor) -> Callable[[], Sample]:
    return lambda: Sample(statistics.median(_orders(daemon, floor, 10)[0]), 0.0)


def _growth(what: str, seconds: Mapping[int, float]) -> list[Result]:
    first, *more = seconds
    return [
        Result(
            row="P17",
            what=f"{what}, {size:,} finished jobs",
            other=f"the same with {first:,}",
            unit="ms",
            ours_value=seconds[size] * 1000,
            other_value=seconds[first] * 1000,
            goal={10_000: 1.2, 100_000: 2.0}.get(size),
        )
        for size in more
    ]
