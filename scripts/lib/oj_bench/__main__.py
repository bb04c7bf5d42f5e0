"""`scripts/bench`: choose rows, run them, print the table, write the JSON.

Rule: exit code 0 means that every row was run, 1 that a row could not be; a missed goal is for the reader to judge.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from oj_bench import peers
from oj_bench.harness import Bench, Result, RowError

ROWS: Final = {
    "P1": ("oj_bench.daemon_rows:p1", "oj status, oj job list with a warm daemon; <= 1.35 x `import click`"),
    "P2": ("oj_bench.cli_rows:p2", "oj --help, oj --version; <= 1.1 x `import click`"),
    "P3": ("oj_bench.daemon_rows:p3", "oj run until the first line of output; <= P1 + 25 ms of CPU"),
    "P5": ("oj_bench.job_rows:p5", "1,000 one-step jobs; <= 3 x a bash loop, faster than the peers"),
    "P6": ("oj_bench.log_rows:p6", "facts per second through the log; >= 5 x, >= 1 x SQLite"),
    "P7": ("oj_bench.daemon_rows:p7", "one acknowledged write; <= 3 x append + fdatasync"),
    "P8": ("oj_bench.daemon_rows:p8", "restart; <= 2 x json.loads of the same bytes"),
    "P9": ("oj_bench.daemon_rows:p9", "memory; <= 4 KB per finished job, <= 55 MB at start"),
    "P14": ("oj_bench.pod_rows:p14", "200 places at once; >= 0.9 x the limit of writes, P13: <= 6 requests each"),
    "P15": ("oj_bench.pod_rows:p15", "pod event to changed state; p95 <= 100 ms"),
    "P16": ("oj_bench.tui_rows:p16", "oj tui with 1,000 jobs and 60 busy agents; <= 30 % of a core, <= 50 ms, memory flat"),
    "P17": ("oj_bench.daemon_rows:p17", "P1, P5, P7 as finished jobs grow; <= 1.2 x at 10,000"),
}  # fmt: skip
COLUMNS: Final = ("row", "ours", "", "beside", "", "ratio", "cpu", "goal", "")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure oj beside others, as ratios."
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {' '.join(ROWS)}; default all")
    parser.add_argument("--root", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="list the rows and their goals")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument(
        "--peers", action="store_true", help="first install the programs to compare with"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args(argv)
    wanted = [name.upper() for name in options.rows] or list(ROWS)
    if unknown := [name for name in wanted if name not in ROWS]:
        parser.error(f"no row {' '.join(unknown)}; rows are {' '.join(ROWS)}")
    if options.list:
        for name in wanted:
            print(f"{name:4} {ROWS[name][1]}")
        return 0
    if options.peers:
        peers.install(options.root)
    absent = peers.missing(options.root)
    results, failed = run_rows(wanted, options.root, quick=options.quick)
    print(table(results))
    for name, reason in failed.items():
        print(f"{name}: {reason}")
    if absent:
        print(f"peers that are not installed (scripts/bench --peers): {' '.join(absent)}")
    if options.json:
        report = {
            "machine": machine(),
            "quick": options.quick,
            "results": [
                {**dataclasses.asdict(result), "ratio": result.ratio, "met": result.met}
                for result in results
            ],
            "not_measured": failed,
            "missing_peers": absent,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if failed else 0


def run_rows(
    names: Sequence[str], root: Path, *, quick: bool
) -> tuple[list[Result], dict[str, str]]:
    """The results of the rows, and why others have none."""
    results: list[Result] = []
    failed: dict[str, str] = {}
    parent = root / ".bench"
    parent.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=parent))
    _spread(scratch)
    try:
        for name in names:
            print(f"{name}...", file=sys.stderr)
            module, _, attribute = ROWS[name][0].partition(":")
            try:
                results += getattr(importlib.import_module(module), attribute)(
                    Bench(root, scratch, quick=quick)
                )
            except (RowError, ImportError) as error:
                failed[name] = str(error)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return results, failed


def _spread(folder: Path) -> None:
    """Let the file system give each folder in here a part of the disk of its own, where it can do that.

    On ext4, files that were deleted a moment ago make it ten times as slow to create others beside them, for minutes: one
    contender would pay for what another has cleaned up. For the same reason nothing is removed before the last row.
    """
    chattr = shutil.which("chattr")
    if chattr is not None:
        subprocess.run([chattr, "+T", str(folder)], check=False, capture_output=True)


def _interrupt(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def table(results: Sequence[Result]) -> str:
    """The results as text."""
    rows = [COLUMNS, *(_cells(result) for result in results)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(widths[at]) for at, cell in enumerate(row)).rstrip() for row in rows
    )


def _cells(result: Result) -> tuple[str, ...]:
    sign = "<=" if result.better == "lower" else ">="
    return (
        result.row,
        result.what,
        _figure(result.ours_value, result.unit),
        result.other,
        _figure(result.other_value, result.unit),
        "-" if result.ratio is None else f"{result.ratio:.2f} x",
        "-" if result.cpu_ratio is None else f"{result.cpu_ratio:.2f} x",
        "-" if result.goal is None else f"{sign} {result.goal:g} x",
        " ".join(
            filter(None, ({True: "met", False: "NOT MET", None: ""}[result.met], result.note))
        ),
    )


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.1f} {unit}"


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
    }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)  # ends daemons and removes folders on the way out
    sys.exit(main())
