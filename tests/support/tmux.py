"""A terminal that a test types into and reads, by tmux: what a person would see, and what is left of it afterwards.

Rule: a server of its own on a socket of its own, which ends with the pane; nothing of the user's tmux is touched.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.waiting import until

PATIENCE = 60.0
FLAGS = "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{mouse_sgr_flag} #{bracket_paste_flag} #{keypad_flag}"


def is_there() -> bool:
    """Whether tmux can be had here."""
    return shutil.which("tmux") is not None


needs_tmux = pytest.mark.skipif(
    not is_there(), reason="tmux is not installed (apt-get install tmux)"
)


class Pane:
    """A shell in a pane of its own."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        cwd: Path,
        *,
        cols: int = 110,
        rows: int = 34,
    ) -> None:
        self._socket = folder / "tmux"
        self._environ = {
            **environ,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PS1": "$ ",
            "LANG": "C.UTF-8",
        }
        shell = ["bash", "--norc", "--noprofile"]
        size = ["-x", str(cols), "-y", str(rows)]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(cwd), shlex.join(shell))
        self._tmux("set-option", "-g", "status", "off")
        self._tmux("resize-window", *size)

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-u", "-S", str(self._socket), *arguments],
            env=self._environ, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return done.stdout

    def type(self, text: str) -> None:
        """Type text as it is."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys by their names in tmux: Enter, Escape, C-c."""
        self._tmux("send-keys", *keys)

    def run(self, argv: Sequence[str]) -> None:
        """Type a command line."""
        self.type(shlex.join(argv))
        self.press("Enter")

    def resize(self, cols: int, rows: int) -> None:
        """Another size."""
        self._tmux("resize-window", "-x", str(cols), "-y", str(rows))

    def text(self) -> str:
        """What stands there."""
        return self._tmux("capture-pane", "-p")

    def until(self, pattern: str, *, seconds: float = PATIENCE) -> str:
        """Wait until something stands there; the whole text then."""
        seen = [""]

        def is_there() -> bool:
            seen[0] = self.text()
            return re.search(pattern, seen[0]) is not None

        until(is_there, seconds, lambda: f"/{pattern}/ in\n{seen[0]}")
        return seen[0]

    def until_not(self, pattern: str) -> str:
        """Wait until it stands there no more."""
        until(
            lambda: re.search(pattern, self.text()) is None,
            PATIENCE,
            lambda: f"no /{pattern}/ in\n{self.text()}",
        )
        return self.text()

    def state(self) -> str:
        """What programs may have left switched on: screen, cursor, mouse, paste, keypad."""
        return self._tmux("display-message", "-p", FLAGS).strip()

    def close(self) -> None:
        """End the shell, all that runs in it, and the server."""
        subprocess.run(
            ["tmux", "-S", str(self._socket), "kill-server"],
            check=False,
            capture_output=True,
            timeout=60,
        )
