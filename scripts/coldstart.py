#!/usr/bin/env python3
"""Prints how long quick commands take to start, and what they load. Informs, never blocks (that is test_imports.py).

.venv-test/bin/python scripts/coldstart.py [COMMAND ...]     such as: coldstart.py --help "job list"
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 15
COMMANDS = ("--version", "--help", "status", "job list", "run")
FLOORS = {"python -c pass": "pass", "python -c 'import click'": "import click"}
OJ = "import sys; from oj_cli.main import main; sys.argv[0] = 'oj'; sys.exit(main())"
COUNT = "import atexit, sys; atexit.register(lambda: sys.__stderr__.write(f'\\n{len(sys.modules)} modules'))"


def environment() -> dict[str, str]:
    """Ours, but with .pyc files as after an install."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT)}


def run(code: str, words: list[str]) -> tuple[float, str]:
    """Seconds of CPU and clock-independent talk of one run."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return time.perf_counter() - began, done.stderr


def main() -> int:
    """Measure the commands named on the line, or the usual ones."""
    jobs: dict[str, tuple[str, list[str]]] = {name: (code, []) for name, code in FLOORS.items()}
    jobs |= {f"oj {line}": (OJ, line.split()) for line in sys.argv[1:] or COMMANDS}
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, (code, words) in jobs.items():
            taken[name].append(run(code, words)[0])
    for name, (code, words) in jobs.items():
        modules = run(f"{COUNT}; {code}", words)[1].rpartition("\n")[2]
        print(f"{name:26} {statistics.median(taken[name]) * 1000:6.1f} ms  {modules}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
