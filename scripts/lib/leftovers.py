"""Find processes that outlived the tests: all that carry the mark of this run in their environment.

Rule: a test that leaves a process behind has failed, whatever it asserted. Found ones are named and ended.
"""

from __future__ import annotations

import sys
import time

import psutil

MARK = "OJ_TEST_RUN"
GRACE_SECONDS = 5.0


def left(mark: str) -> list[psutil.Process]:
    """Processes whose environment holds the mark; those of other users cannot be asked and are not ours."""
    found = []
    for process in psutil.process_iter():
        try:
            is_ours = (
                process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            continue
        if is_ours:
            found.append(process)
    return found


def main() -> int:
    """Report what is left after a short grace, and end it."""
    mark = sys.argv[1]
    deadline = time.monotonic() + GRACE_SECONDS
    while (found := left(mark)) and time.monotonic() < deadline:
        psutil.wait_procs(found, timeout=0.2)
    for process in found:
        try:
            print(f"left behind: {process.pid} {' '.join(process.cmdline())}", file=sys.stderr)
            process.kill()
        except psutil.Error:
            continue
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
