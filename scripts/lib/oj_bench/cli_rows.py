"""Rows about a single call of `oj` that needs no daemon."""

from __future__ import annotations

from oj_bench.harness import Bench, Result, compare_commands, interleave, timed_command

IMPORT_CLICK = "python -c 'import click'"


def p2(bench: Bench) -> list[Result]:
    """`oj --help` and `oj --version`."""
    env = bench.environment()
    taken = interleave(
        {
            IMPORT_CLICK: timed_command([bench.python, "-c", "import click"], env),
            "oj --help": timed_command([bench.oj, "--help"], env),
            "oj --version": timed_command([bench.oj, "--version"], env),
        },
        bench.rounds(41, 7),
    )
    return compare_commands("P2", taken, floor=IMPORT_CLICK, goal=1.1)
