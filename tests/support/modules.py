"""Which modules a command line of `oj` loads, seen from inside a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

MARK = "\x1eMODULES\x1e"
"""Separates what the program said on stderr from the list behind it."""

# Asked at exit, so that an import inside a function counts too. `-I` keeps this process to what is installed and `oj`.
PROGRAM = f"""
import atexit, sys
sys.path.insert(0, sys.argv[1])
del sys.argv[1]
atexit.register(lambda: print({MARK!r} + " ".join(sorted(sys.modules)), file=sys.stderr))
sys.argv[0] = "oj"
from oj_cli.main import main
sys.exit(main())
"""

ROOT = Path(__file__).resolve().parent.parent.parent


class Loaded:
    """One finished run: its exit code, what it said, and the names in `sys.modules` at its end."""

    def __init__(self, returncode: int, stdout: str, stderr: str) -> None:
        said, mark, names = stderr.partition(MARK)
        assert mark, f"the program ended without its exit handlers: {stderr}"
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = said
        self.names = frozenset(names.split())

    def ours(self) -> set[str]:
        """Modules of this repository, packages without content left out."""
        packages = {"oj_cli", "oj_daemon", "oj_tui", "oj_cli.commands", "oj_daemon.wire"}
        return {
            name
            for name in self.names
            if name.partition(".")[0] in ("oj_cli", "oj_daemon", "oj_tui")
        } - packages

    def any_of(self, *packages: str) -> set[str]:
        """Which of these packages (or anything below them) were loaded."""
        return {
            package
            for package in packages
            if any(f"{name}.".startswith(f"{package}.") for name in self.names)
        }


def modules_of(
    args: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
) -> Loaded:
    """Run `oj ARGS` with its output piped and tell what it loaded."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, str(ROOT), *args],
        cwd=cwd or ROOT,
        env=dict(os.environ if env is None else env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Loaded(done.returncode, done.stdout, done.stderr)
