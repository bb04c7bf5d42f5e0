"""What every row shares: a scratch folder, timed child processes, interleaved rounds, and results with their goals.

Rule: machines are shared and noisy, so a figure is a ratio of medians, taken in one run in A B A B order. A row never
decides what a reader may see: a missed goal, a missing peer and a row that cannot run are results like any other.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

Better = Literal["lower", "higher"]


class RowError(Exception):
    """This row cannot be measured here; the message says why and what would help."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One run: seconds on the clock, and seconds of CPU of the process and all that it waited for."""

    wall: float
    cpu: float


@dataclasses.dataclass(frozen=True)
class Result:
    """One line of the table: ours beside one other, or only a reason."""

    row: str
    what: str
    other: str
    unit: str = ""
    ours_value: float | None = None
    other_value: float | None = None
    goal: float | None = None
    """Bound of ours / other; None when the line is for information."""
    better: Better = "lower"
    cpu_ratio: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours / other."""
        if self.ours_value is None or not self.other_value:
            return None
        return self.ours_value / self.other_value

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without goal or figure."""
        if self.goal is None or self.ratio is None:
            return None
        return self.ratio <= self.goal if self.better == "lower" else self.ratio >= self.goal


class Bench:
    """One run of `scripts/bench`: where things are, and how many rounds a row may take."""

    def __init__(self, root: Path, scratch: Path, *, quick: bool) -> None:
        self.root = root
        self.scratch = scratch
        """A folder on the disk of the checkout (/tmp may be memory, where a sync costs nothing)."""
        self.quick = quick
        self.python = str(root / ".venv-test" / "bin" / "python")
        self.oj = str(root / ".venv-test" / "bin" / "oj")

    def rounds(self, full: int, quick: int) -> int:
        """How often to repeat."""
        return quick if self.quick else full

    def folder(self) -> Path:
        """A fresh empty folder."""
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of children: this one, without what belongs to the bench."""
        ours = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
        kept = {name: value for name, value in os.environ.items() if name not in ours}
        return {**kept, **more}


def timed_command(
    argv: Sequence[str], env: Mapping[str, str], *, expect: int = 0
) -> Callable[[], Sample]:
    """A contender that runs a program with its output thrown away."""

    def run() -> Sample:
        null = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        began = time.perf_counter()
        pid = os.posix_spawnp(argv[0], list(argv), dict(env), file_actions=null)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - began
        code = os.waitstatus_to_exitcode(status)
        if code != expect:
            message = f"`{' '.join(argv)}` ended with {code} instead of {expect}"
            raise RowError(message)
        return Sample(wall, usage.ru_utime + usage.ru_stime)

    return run


def interleave(
    contenders: Mapping[str, Callable[[], Sample]], rounds: int
) -> dict[str, list[Sample]]:
    """Run every contender once in each round, after one round that does not count; every other round backwards."""
    taken: dict[str, list[Sample]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        names = list(contenders)[:: 1 if number % 2 else -1]
        for name in names:
            sample = contenders[name]()
            if number:
                taken[name].append(sample)
    return taken


def wall(samples: Sequence[Sample]) -> float:
    """Median seconds on the clock."""
    return statistics.median(sample.wall for sample in samples)


def cpu(samples: Sequence[Sample]) -> float:
    """Median seconds of CPU."""
    return statistics.median(sample.cpu for sample in samples)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def compare_commands(
    row: str,
    taken: Mapping[str, Sequence[Sample]],
    *,
    floor: str,
    goal: float | None,
    note: str = "",
) -> list[Result]:
    """Lines that compare every contender with one of them, in milliseconds."""
    return [
        Result(
            row=row,
            what=name,
            other=floor,
            unit="ms",
            ours_value=wall(samples) * 1000,
            other_value=wall(taken[floor]) * 1000,
            goal=goal,
            cpu_ratio=cpu(samples) / cpu(taken[floor]) if cpu(taken[floor]) else None,
            note=note,
        )
        for name, samples in taken.items()
        if name != floor
    ]
