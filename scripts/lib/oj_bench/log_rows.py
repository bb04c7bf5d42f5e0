"""Rows about the write-ahead log alone: many writers at once, and one writer on an idle log.

Rule: the log is driven as the engine drives it: records are appended in one thread, committed once per turn of the
event loop, and a writer goes on only when its record is announced as durable. SQLite gets its best case: one
connection, prepared statements, no contention.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from oj_bench.harness import Bench, Result, RowError, Sample, interleave, percentile, wall
from oj_daemon.store.wal import Wal

WRITERS = 100
PATIENCE = 120
"""Seconds after which the log is taken to have failed."""
PAYLOAD = b'{"facts":[{"type":"bench","text":"%s"}]}' % (b"x" * 980)


def p6(bench: Bench) -> list[Result]:
    """Facts per second through the log: 1 KB, 100 writers, each waits for its own sync."""
    count = bench.rounds(10_000, 2_000)
    single = bench.rounds(2_000, 400)
    taken = interleave(
        {
            "ours": _per_fact(count, lambda: _through_log(bench.folder(), count)),
            "one": _per_fact(single, lambda: _through_sqlite(bench.folder(), single, 1)),
            "grouped": _per_fact(count, lambda: _through_sqlite(bench.folder(), count, WRITERS)),
        },
        bench.rounds(9, 3),
    )
    rates = {name: 1 / wall(samples) for name, samples in taken.items()}
    what = f"log, {WRITERS} writers, 1 KB"

    def line(other: str, rate: float, goal: float) -> Result:
        return Result(
            row="P6", what=what, other=other, unit="facts/s", ours_value=rates["ours"], other_value=rate, goal=goal, better="higher"
        )  # fmt: skip

    return [
        line("SQLite FULL, one transaction each", rates["one"], 5),
        line(f"SQLite FULL, {WRITERS} in one transaction", rates["grouped"], 1),
    ]


def p7(bench: Bench) -> list[Result]:
    """One acknowledged write on an idle log."""
    count = bench.rounds(2_000, 300)
    folder = bench.folder()
    durable = threading.Event()
    wal = _open(folder / "wal", lambda _: durable.set())
    plain = os.open(folder / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    ours: list[float] = []
    floor: list[float] = []
    try:
        for number in range(count + 20):
            durable.clear()
            began = time.perf_counter()
            wal.append(PAYLOAD)
            if not wal.commit():
                durable.wait(PATIENCE)
            between = time.perf_counter()
            os.write(plain, PAYLOAD)
            os.fdatasync(plain)
            ended = time.perf_counter()
            if number >= 20:
                ours.append(between - began)
                floor.append(ended - between)
    finally:
        os.close(plain)
        wal.close()

    def line(what: str, ours_value: float, other_value: float, goal: float | None) -> Result:
        return Result(
            "P7", what, "append + fdatasync", "us", ours_value * 1e6, other_value * 1e6, goal
        )

    return [
        line("one acknowledged write, p50", statistics.median(ours), statistics.median(floor), 3),
        line("one acknowledged write, p99", percentile(ours, 99), percentile(floor, 99), None),
    ]


def _per_fact(count: int, run: Callable[[], None]) -> Callable[[], Sample]:
    def timed() -> Sample:
        began, cpu_began = time.perf_counter(), time.process_time()
        run()
        return Sample(
            (time.perf_counter() - began) / count, (time.process_time() - cpu_began) / count
        )

    return timed


def _open(folder: Path, on_durable: Callable[[int], object]) -> Wal:
    def announce(seq: int) -> None:
        on_durable(seq)

    def complain(error: Exception) -> None:
        sys.stderr.write(f"the log failed: {error}\n")

    wal = Wal.open(folder)
    for _ in wal.replay():
        pass
    wal.start(announce, complain)
    return wal


def _through_log(folder: Path, count: int) -> None:
    asyncio.run(_writers(folder, count))


async def _writers(folder: Path, count: int) -> None:
    loop = asyncio.get_running_loop()
    waiting: dict[int, asyncio.Future[None]] = {}
    announced = 0
    scheduled = False

    def announce(seq: int) -> None:
        nonlocal announced
        while announced < seq:
            announced += 1
            waiting.pop(announced).set_result(None)

    def commit() -> None:
        nonlocal scheduled
        scheduled = False
        if wal.commit():
            announce(wal.durable)

    wal = _open(folder, lambda seq: loop.call_soon_threadsafe(announce, seq))

    async def writer(facts: int) -> None:
        nonlocal scheduled
        for _ in range(facts):
            seq = wal.append(PAYLOAD)
            done = waiting[seq] = loop.create_future()
            if not scheduled:
                scheduled = True
                loop.call_soon(commit)
            await done

    everybody = asyncio.gather(*(writer(count // WRITERS) for _ in range(WRITERS)))
    try:
        await asyncio.wait_for(everybody, PATIENCE)
    except TimeoutError:
        message = f"the log announced nothing for {PATIENCE} s"
        raise RowError(message) from None
    finally:
        wal.close()


def _through_sqlite(folder: Path, count: int, group: int) -> None:
    connection = sqlite3.connect(folder / "log.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, payload BLOB)")
    for _ in range(count // group):
        connection.execute("BEGIN")
        for _ in range(group):
            connection.execute("INSERT INTO log (payload) VALUES (?)", (PAYLOAD,))
        connection.execute("COMMIT")
    connection.close()
