"""What stops pods on the way: programs of the image that wait, so that a test can act at just that moment.

Rule: black box; a pod reaches a moment, says so with a file, and waits as long as the moment is held.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.support.waiting import until
from tests.support.world import ROOT

SECONDS = 60.0
GATE = """\
stop_at() {{
  test -e {stay}/$1 || return 0
  touch {at}/$1
  while test -e {stay}/$1; do sleep 0.1; done
}}
"""
GIT = """\
case "$*" in
  "clone "*) stop_at clone ;;
  "checkout -q -b "*) stop_at branch ;;
esac
exec {program} "$@"
"""
SIDECAR = """\
case "$*" in
  *--place*) stop_at place ;;
  *) stop_at agent ;;
esac
exec {program} "$@"
"""
MOMENTS = ("clone", "place", "branch", "agent")


class Moments:
    """Moments in the life of a pod: clone, place (its sidecar starts), branch (it is begun), agent (its sidecar starts)."""

    def __init__(self, folder: Path) -> None:
        self._stay, self._at = folder / "stay", folder / "at"
        self._bin = folder / "bin"
        for path in (self._stay, self._at, self._bin):
            path.mkdir(parents=True)
        git = shutil.which("git")
        for name, text, program in (
            ("git", GIT, git),
            ("oj-sidecar", SIDECAR, Path(sys.executable).parent / "oj-sidecar"),
        ):
            script = "#!/bin/sh\n" + GATE.format(stay=self._stay, at=self._at)
            path = self._bin / name
            path.write_text(script + text.format(program=program))
            path.chmod(0o755)

    @property
    def path(self) -> str:
        """PATH of an image with these programs."""
        here = (self._bin, Path(sys.executable).parent, ROOT / "tests" / "support" / "agent")
        return ":".join((*map(str, here), "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"))

    @property
    def sidecar(self) -> Path:
        """What an image starts."""
        return self._bin / "oj-sidecar"

    def hold(self, name: str) -> None:
        """Stop whoever comes there."""
        assert name in MOMENTS
        (self._stay / name).touch()

    def reached(self, name: str) -> None:
        """Wait until somebody stands there."""
        until((self._at / name).exists, SECONDS, f"a pod is at {name}")

    def let_go(self, name: str) -> None:
        """Let them go on."""
        (self._stay / name).unlink()
