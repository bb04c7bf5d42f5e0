"""`oj-sidecar`: options to wiring.

Rule: the exit code of the child is ours. Agents are not part of this version, so it has no child yet.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from oj_daemon.build import identity

USAGE: Final = """\
Usage: oj-sidecar [--version] [--help]

  Internal: runs around one agent in its place. Agents are not part of this version yet.
"""
EXIT_USAGE: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args in (["-v"], ["-V"], ["--version"]):
        sys.stdout.write(f"oj-sidecar {identity()}\n")
        return 0
    if args in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    sys.stderr.write(
        "Error: oj-sidecar cannot run an agent: agents are not part of this version yet\n"
    )
    return EXIT_USAGE
