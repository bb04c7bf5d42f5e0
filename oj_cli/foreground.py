"""Shell text in the foreground: bash with our terminal, its exit code passed on.

Rule: while the script runs, signals are the script's business. What the terminal sends reaches it anyway, what is sent to
us alone is passed on, and we stay until it has ended.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile

from oj_daemon.errors import OjError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import FrameType

OPTIONS = ("-euo", "pipefail")
LONGEST_ARGUMENT = 100_000
"""Bytes of a script that are given on the command line; Linux takes 128 KB."""
SIGNAL_BASE = 128


def run_bash(script: str, folder: Path, environ: Mapping[str, str]) -> int:
    """Run a script there, and return its exit code; 128 + n when signal n ended it."""
    data = script.encode("utf-8", "surrogateescape")
    if len(data) <= LONGEST_ARGUMENT:
        return _run(["bash", *OPTIONS, "-c", script], folder, environ)
    with tempfile.NamedTemporaryFile(prefix="oj-", suffix=".sh") as file:
        file.write(data)
        file.flush()
        return _run(["bash", *OPTIONS, file.name], folder, environ)


def _run(command: list[str], folder: Path, environ: Mapping[str, str]) -> int:
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        # The script may be at work before we know its process id.
        early.append(number) if process is None else process.send_signal(number)

    def leave_alone(_number: int, _frame: FrameType | None) -> None:
        """Sent by the terminal to the script as well."""

    # Handlers and not SIG_IGN: what is ignored stays ignored in the script.
    handlers = {
        signal.SIGINT: leave_alone,
        signal.SIGQUIT: leave_alone,
        signal.SIGTERM: pass_on,
        signal.SIGHUP: pass_on,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        sys.stdout.flush()
        process = subprocess.Popen(command, cwd=folder, env=dict(environ))
        for number in early:
            process.send_signal(number)
        status = process.wait()
    except FileNotFoundError as failure:
        if not folder.is_dir():
            message = f"cannot run in {folder}: the folder does not exist"
            raise OjError(message, code="invalid") from failure
        message = "cannot run shell text: bash was not found on PATH"
        raise OjError(message, code="unavailable", hint="install bash; oj doctor") from failure
    except OSError as failure:
        message = f"cannot run shell text: {failure.strerror}"
        raise OjError(message, code="io") from failure
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else SIGNAL_BASE - status
