"""P16: the live view with 1,000 jobs and 60 agents that never stop talking.

Rule: the real `oj tui` on a terminal of its own; what is measured is the CPU of that process, and the time from a key to the
picture that shows it. The daemon is a stand-in (tui_daemon.py) that has more news than any real one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from typing import Final

import psutil

from oj_bench.harness import Bench, Result, RowError, percentile

SCREENS: Final = {"jobs": b"2", "job": b"2\r", "agents": b"3", "agent": b"3\r"}
"""What is measured, and the keys that lead there."""
CURSOR: Final = re.compile(rb"\x1b\[1;[0-9;]*m([0-9a-z]{8})(?=[ \x1b])")
"""An id in the row of the cursor, which alone is bold."""
KEYS: Final = (b"j", b"j", b"j", b"k", b"j", b"k")
PATIENCE: Final = 60.0


class View:
    """One `oj tui` on a terminal."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._child = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
        )
        os.close(theirs)
        self._terminal = ours
        self._seen = bytearray()
        self._came = threading.Condition()
        self.process = psutil.Process(self._child.pid)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._terminal, 1 << 16):
                with self._came:
                    self._seen += data
                    del self._seen[: -(1 << 18)]
                    self._came.notify_all()

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, keys)

    def forget(self) -> None:
        """What was drawn so far does not count."""
        with self._came:
            self._seen.clear()

    def until(self, pattern: re.Pattern[bytes], other_than: bytes = b"") -> bytes:
        """Wait until something is drawn, and return it."""
        deadline = time.monotonic() + PATIENCE
        with self._came:
            while True:
                found = [text for text in pattern.findall(self._seen) if text != other_than]
                if found:
                    return bytes(found[-1])
                if (
                    not self._came.wait(max(0.0, deadline - time.monotonic()))
                    or self._child.poll() is not None
                ):
                    raise RowError(
                        f"`oj tui` has not drawn {pattern.pattern!r}: {bytes(self._seen[-300:])!r}"
                    )

    def cpu(self, seconds: float) -> float:
        """Share of a core that it takes."""
        before, began = self.process.cpu_times(), time.perf_counter()
        select.select([], [], [], seconds)
        after, took = self.process.cpu_times(), time.perf_counter() - began
        return (after.user + after.system - before.user - before.system) / took

    def close(self) -> None:
        """End it."""
        self._child.terminate()
        self._child.wait()
        os.close(self._terminal)


@contextlib.contextmanager
def viewing(bench: Bench) -> Iterator[View]:
    """The view of a busy daemon."""
    folder = bench.folder()
    env = bench.environment(OJ_STATE_DIR=str(folder), TERM="xterm-256color", COLORTERM="truecolor")
    argv = [sys.executable, "-m", "oj_bench.tui_daemon", str(folder / "daemon.sock")]
    path = os.pathsep.join([str(bench.root / "scripts" / "lib"), str(bench.root)])
    server = subprocess.Popen(argv, env={**env, "PYTHONPATH": path})
    try:
        deadline = time.monotonic() + PATIENCE
        while not (folder / "daemon.sock").exists():
            if time.monotonic() > deadline or server.poll() is not None:
                raise RowError("the daemon of the bench does not listen")
            time.sleep(0.02)
        view = View([bench.oj, "tui"], env)
        try:
            view.until(re.compile(rb"Overview"))
            yield view
        finally:
            view.close()
    finally:
        server.terminate()
        server.wait()


def p16(bench: Bench) -> list[Result]:
    """CPU on each screen, the time from a key to its picture, and what the memory does."""
    results = []
    seconds = bench.rounds(20, 5)
    with viewing(bench) as view:
        for name, keys in SCREENS.items():
            for key in re.findall(rb"[^\x1b]", keys):
                view.type(key)
                select.select([], [], [], 1.0)
            share = view.cpu(seconds)
            results.append(
                Result("P16", f"oj tui, {name}, CPU", "a core", "", share, 1.0, goal=0.3)
            )
            view.type(b"\x1b")
            select.select([], [], [], 0.5)
        view.type(b"2")
        select.select([], [], [], 1.0)
        taken = _key_times(view, bench.rounds(60, 12))
        slow, usual = (1000 * percentile(taken, percent) for percent in (95, 50))
        note = f"median {usual:.0f} ms"
        results.append(
            Result("P16", "key to repaint, p95", "50 ms", "ms", slow, 50.0, goal=1.0, note=note)
        )
        results.append(_memory(view, bench.rounds(600, 20)))
    return results


def _key_times(view: View, rounds: int) -> list[float]:
    taken = []
    current = view.until(CURSOR)
    for at in range(rounds):
        view.forget()
        began = time.perf_counter()
        view.type(KEYS[at % len(KEYS)])
        current = view.until(CURSOR, other_than=current)
        taken.append(time.perf_counter() - began)
        select.select([], [], [], 0.05)
    return taken


def _memory(view: View, seconds: float) -> Result:
    """After ten minutes beside after one (in a quick run: after 20 s beside after 2)."""
    view.type(b"3\r")
    select.select([], [], [], seconds / 10)
    early = view.process.memory_info().rss
    select.select([], [], [], seconds * 9 / 10)
    late = view.process.memory_info().rss
    return Result(
        "P16",
        f"memory after {seconds:.0f} s",
        "after a tenth of that",
        "MB",
        late / 1e6,
        early / 1e6,
        goal=1.05,
    )
