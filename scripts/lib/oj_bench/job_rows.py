"""P5: many one-step jobs, from the first order to the last completion, beside a bash loop and programs for the same purpose.

Rule: everybody runs `bash -c true` as often, two at a time where it can do that. What the peer itself needs before its first
job (a server, a worker) is started beforehand and ended afterwards. How far each keeps what it was told is in its name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Final

from oj_bench import peers, states
from oj_bench.daemon import PATIENCE, Daemon, Jobs
from oj_bench.harness import (
    Bench,
    Result,
    RowError,
    Sample,
    compare_commands,
    cpu,
    interleave,
    wall,
)

FLOOR: Final = "bash loop of bash -c true"
AT_ONCE: Final = 2
HUEY: Final = """\
import subprocess
from huey import SqliteHuey
huey = SqliteHuey(filename={path!r}, fsync=True, results=True)
@huey.task()
def job(number):
    return subprocess.run(["bash", "-c", "true"], check=True).returncode + 1
"""
HUEY_PUSH: Final = """\
import sys, time
import bench_tasks
count = int(sys.argv[1])
for number in range(count):
    bench_tasks.job(number)
while bench_tasks.huey.storage.result_store_size() < count:
    time.sleep(0.005)
"""
LUIGI: Final = """\
import pathlib, subprocess, sys
import luigi
class Job(luigi.Task):
    number = luigi.IntParameter()
    def output(self):
        return luigi.LocalTarget(f"{sys.argv[2]}/{self.number}")
    def run(self):
        subprocess.run(["bash", "-c", "true"], check=True)
        pathlib.Path(self.output().path).touch()
done = luigi.build([Job(number) for number in range(int(sys.argv[1]))], workers=2, local_scheduler=True, log_level="ERROR")
sys.exit(not done)
"""
DBOS: Final = """\
import subprocess, sys, threading
from dbos import DBOS
url = f"sqlite:///{sys.argv[2]}/dbos.sqlite"
DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
count, done, ended = int(sys.argv[1]), 0, threading.Condition()
@DBOS.step()
def step():
    subprocess.run(["bash", "-c", "true"], check=True)
@DBOS.workflow()
def job():
    global done
    step()
    with ended:
        done += 1
        ended.notify()
DBOS.launch()
DBOS.register_queue("bench", worker_concurrency=2, polling_interval_sec=0.01)
for _ in range(count):
    DBOS.enqueue_workflow("bench", job)
with ended:
    ended.wait_for(lambda: done == count)
DBOS.destroy()
"""

Contender = Callable[[], Sample]


def p5(bench: Bench) -> list[Result]:
    """One-step jobs (`true`): floor, ours two at a time and all at once, and whatever peers are here."""
    count = bench.rounds(1_000, 100)
    what = f"{count:,} one-step jobs, {AT_ONCE} at a time, one request each"
    with Daemon(bench, bench.folder() / "s") as daemon:
        ours = _ours(daemon, count, AT_ONCE)
        taken = interleave(
            {
                FLOOR: _program(
                    ["bash", "-c", f"for ((i = 0; i < {count}; i++)); do bash -c true; done"]
                ),
                what: ours,
                f"{count:,} one-step jobs, all ordered at once": _ours(daemon, count, count),
            },
            bench.rounds(5, 2),
        )
        results = compare_commands("P5", taken, floor=FLOOR, goal=None)
        results[0] = dataclasses.replace(results[0], goal=3.0)
        for name, make in PEERS.items():
            try:
                with make(bench, 2) as trial:
                    trial()
                # Once, between two of ours: some take a minute.
                with make(bench, count) as peer:
                    before, beside, after = ours(), peer(), ours()
            except RowError as error:
                results.append(Result("P5", what, name, note=f"not measured: {error}"))
                continue
            results.append(
                Result(
                    row="P5",
                    what=what,
                    other=name,
                    unit="ms",
                    ours_value=wall([before, after]) * 1000,
                    other_value=beside.wall * 1000,
                    goal=1.0 if name in TO_BEAT else None,
                    cpu_ratio=cpu([before, after]) / beside.cpu if beside.cpu else None,
                )
            )
    return results


def _ours(daemon: Daemon, count: int, at_once: int) -> Contender:
    def run() -> Sample:
        began, own, before = time.perf_counter(), time.process_time(), _whole_cpu(daemon)
        with daemon.client() as client:
            Jobs(client, daemon.state, states.RUNBOOK, "one").run(count, at_once=at_once)
        used = time.process_time() - own + _whole_cpu(daemon) - before
        return Sample(time.perf_counter() - began, used)

    return run


def _whole_cpu(daemon: Daemon) -> float:
    return daemon.cpu() + daemon.children_cpu()


def _program(argv: list[str], env: dict[str, str] | None = None) -> Contender:
    """Runs a program that does all the work and waits for it; its CPU includes what it waited for."""

    def run() -> Sample:
        before = os.times()
        began = time.perf_counter()
        done = subprocess.run(
            argv, check=False, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=10 * PATIENCE
        )  # fmt: skip
        taken = time.perf_counter() - began
        after = os.times()
        if done.returncode:
            message = f"`{argv[0]}` ended with {done.returncode}: {done.stderr.decode(errors='replace')[-300:].strip()}"
            raise RowError(message)
        used = (
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
        return Sample(taken, used)

    return run


def _clean(bench: Bench, **more: str) -> dict[str, str]:
    return bench.environment(HOME=str(bench.folder()), **more)


@contextlib.contextmanager
def _task_spooler(bench: Bench, count: int) -> Iterator[Contender]:
    program = peers.program("task-spooler")
    if program is None:
        raise RowError(NOT_HERE)
    env = _clean(
        bench, TS_SOCKET=str(bench.folder() / "s"), TS_MAXFINISHED="10", TMPDIR=str(bench.folder())
    )
    subprocess.run([program, "-S", str(AT_ONCE)], env=env, check=True, stdout=subprocess.DEVNULL)
    # The last one to begin may end before the one beside it, so the list is looked at, too.
    text = (
        f"for ((i = 0; i < {count}; i++)); do {program} -n bash -c true >/dev/null; done; {program} -w; "
        f"while {program} | grep -qE 'running|queued'; do :; done; {program} -C"
    )
    try:
        yield _without_cpu(_program(["bash", "-c", text], env))
    finally:
        subprocess.run([program, "-K"], env=env, check=False, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def _nq(bench: Bench, count: int) -> Iterator[Contender]:
    program = peers.program("nq")
    if program is None:
        raise RowError(NOT_HERE)
    folder = bench.folder()
    env = _clean(bench, NQDIR=str(folder))
    text = f"for ((i = 0; i < {count}; i++)); do {program} bash -c true >/dev/null; done; {program} -w; rm -f {folder}/,*"
    yield _without_cpu(_program(["bash", "-c", text], env))


@contextlib.contextmanager
def _parallel(bench: Bench, count: int) -> Iterator[Contender]:
    program = peers.program("parallel")
    if program is None:
        raise RowError(NOT_HERE)
    env = _clean(bench)
    text = f"seq {count} | {program} --will-cite -j{AT_ONCE} -n1 --joblog {bench.folder()}/log 'bash -c true #'"
    yield _program(["bash", "-c", text], env)


@contextlib.contextmanager
def _huey(bench: Bench, count: int) -> Iterator[Contender]:
    python = _library(bench, "huey")
    folder = bench.folder()
    (folder / "bench_tasks.py").write_text(HUEY.format(path=str(folder / "huey.db")))
    (folder / "push.py").write_text(HUEY_PUSH)
    env = _clean(bench, PYTHONPATH=str(folder))
    consumer = subprocess.Popen(
        [python, "-m", "huey.bin.huey_consumer", "bench_tasks.huey", "-w", str(AT_ONCE), "-k", "thread", "-n", "-q"],
        env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    flush = "import bench_tasks; bench_tasks.huey.storage.flush_results()"

    def run() -> Sample:
        subprocess.run([python, "-c", flush], env=env, cwd=folder, check=True)
        return push()

    push = _without_cpu(_program([python, str(folder / "push.py"), str(count)], env))
    try:
        yield run
    finally:
        consumer.send_signal(signal.SIGINT)
        try:
            consumer.wait(15)
        except subprocess.TimeoutExpired:
            consumer.kill()
            consumer.wait()


@contextlib.contextmanager
def _luigi(bench: Bench, count: int) -> Iterator[Contender]:
    yield _script(bench, "luigi", LUIGI, count)


@contextlib.contextmanager
def _dbos(bench: Bench, count: int) -> Iterator[Contender]:
    yield _script(bench, "dbos", DBOS, count)


def _script(bench: Bench, library: str, text: str, count: int) -> Contender:
    """A script that starts the peer, runs the jobs and ends: its start is part of the time."""
    python = _library(bench, library)
    script = bench.folder() / "script.py"
    script.write_text(text)
    env = _clean(bench)

    def run() -> Sample:
        return _program([python, str(script), str(count), str(bench.folder())], env)()

    return run


def _library(bench: Bench, name: str) -> str:
    python = peers.python(bench.root)
    if python is None or not peers.has_library(bench.root, name):
        raise RowError(NOT_HERE)
    return python


def _without_cpu(run: Contender) -> Contender:
    """For peers that work in a process that we do not wait for: their CPU is unknown."""
    return lambda: Sample(run().wall, 0.0)


NOT_HERE: Final = "not installed"
PEERS: Final[dict[str, Callable[[Bench, int], contextlib.AbstractContextManager[Contender]]]] = {
    "task-spooler (in memory)": _task_spooler,
    "nq (files, one at a time)": _nq,
    "GNU parallel (log, not synced)": _parallel,
    "huey (SQLite, fsync)": _huey,
    "luigi (marker files)": _luigi,
    "dbos (SQLite)": _dbos,
}
TO_BEAT: Final = ("huey (SQLite, fsync)", "luigi (marker files)", "dbos (SQLite)")
"""The durable ones and those in Python; the others do less."""
