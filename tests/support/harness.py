"""Runs `oj` for tests: in this process against a fake daemon, or as a real process where signals or imports matter.

Rule: each harness has a state folder and a project folder of its own; nothing of the developer's machine gets in.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from oj_cli import output
from oj_cli.main import main
from tests.support.fake_daemon import FakeDaemon

ROOT = Path(__file__).resolve().parents[2]


class Result(NamedTuple):
    """What one call of `oj` did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout, which has to be one JSON document."""
        return json.loads(self.out)


class Harness:
    """`oj` in a project folder, with a state folder whose socket a fake daemon may listen on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = folder / "state"
        self.work = folder / "shop"
        self.state.mkdir(parents=True)
        (self.work / ".oj").mkdir(parents=True)
        self.daemon = FakeDaemon(self.state / "daemon.sock")
        self._monkeypatch = monkeypatch
        self.environ = {
            "OJ_STATE_DIR": str(self.state),
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
        }
        for name in list(os.environ):
            if name.startswith("OJ_") or name in (
                "NO_COLOR",
                "COLOR",
                "KUBERNETES_SERVICE_HOST",
                "XDG_STATE_HOME",
            ):
                monkeypatch.delenv(name)
        for name, value in self.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(self.work)

    def setenv(self, name: str, value: str) -> None:
        """Set a variable for the calls that follow."""
        self.environ[name] = value
        self._monkeypatch.setenv(name, value)

    def oj(self, *args: str, tty: int = 0) -> Result:
        """Run `oj` in this process; `tty` makes stdout a terminal of so many columns."""
        out: io.StringIO = _Terminal() if tty else io.StringIO()
        err = io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), self._monkeypatch.context() as patch:
            patch.setattr(output, "_terminal", None)
            if tty:
                patch.setattr(os, "get_terminal_size", lambda _fd=1: os.terminal_size((tty, 24)))
            code = main(list(args))
            output.forget()
        return Result(code, out.getvalue(), err.getvalue())

    def spawn(
        self, *args: str, environ: Mapping[str, str] | None = None, ignores_interrupts: bool = False
    ) -> subprocess.Popen[str]:
        """Start `oj` as a process; the caller ends it. `ignores_interrupts` is how `oj ... &` in a script starts."""
        before = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"] if ignores_interrupts else []
        return subprocess.Popen(
            [*before, sys.executable, "-m", "oj_cli", *args],
            cwd=self.work,
            env={**self.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the fake daemon."""
        self.daemon.close()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1
