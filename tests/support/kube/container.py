"""One container of the test kubelet: a real process in mount and PID namespaces of its own.

Rule: whatever it started ends with it, and it ends when the kubelet's process does, however that ends: the kernel sees to both.
Needs Linux and root; the program runs as root, whatever the pod asks for. The network is the machine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

ENTER = Path(__file__).with_name("enter.py")
DIES = ("setpriv", "--pdeathsig", "KILL")
"""Whatever follows dies with its parent."""
# Not `unshare --fork`, which says 1 for what was killed. The shell's first child is process 1 of the new namespace.
WAIT = 'exec 3>&2 2>/dev/null; "$@" 2>&3 3>&-; exit $?'
WORDS = (*DIES, "unshare", "--mount", "--pid", "--propagation", "private", "sh", "-c", WAIT, "sh", *DIES)  # fmt: skip


@functools.cache
def unsupported() -> str:
    """Why containers cannot be run on this machine; empty: they can."""
    if not sys.platform.startswith("linux"):
        return "the test kubelet needs Linux"
    if os.geteuid() != 0:
        return "the test kubelet needs root, to make mount namespaces"
    missing = [name for name in ("setpriv", "unshare", "git") if shutil.which(name) is None]
    if missing:
        return f"the test kubelet needs {', '.join(missing)}"
    script = "mount -t tmpfs probe /mnt && mkdir /mnt/proc && mount -t proc proc /mnt/proc"
    probe = [*WORDS, "sh", "-c", script]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=30, check=False)
    return f"no mount namespaces here: {done.stderr.strip()}" if done.returncode else ""


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` and `$$`, as Kubernetes replaces them in commands and variables; unknown names stay as they are."""

    def replaced(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return env.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([^()]*)\)", replaced, text)


class Container:
    """What runs for one container of a pod; `start` it once."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._spec = folder / f"{name}.json"
        self._trouble = folder / f"{name}.trouble"
        self._root = folder / f"{name}.root"
        self._process: asyncio.subprocess.Process | None = None
        self._is_killed = False

    async def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        mounts: Sequence[tuple[str, str, bool]],
        files: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start it; `mounts`: source, target, whether it is read-only; `files`: sources by target, of files that are there."""
        self._root.mkdir()
        self._spec.write_text(
            json.dumps(
                {
                    "argv": list(argv), "env": dict(env), "cwd": cwd, "mounts": list(mounts),
                    "files": dict(files),
                    "root": str(self._root), "trouble": str(self._trouble),
                }
            )
        )  # fmt: skip
        words = (*WORDS, sys.executable, "-I", "-S", str(ENTER), str(self._spec))
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        if self._is_killed:
            self.kill()

    @property
    def is_running(self) -> bool:
        """It was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def trouble(self) -> str:
        """Why its program could not be started."""
        with contextlib.suppress(OSError):
            return self._trouble.read_text()
        return ""

    async def wait(self) -> int:
        """Its exit code, once it has ended; 128 + n after signal n."""
        assert self._process is not None
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def end(self, grace_seconds: float) -> int:
        """TERM to its first process, and KILL to all of them after the grace."""
        waiting = asyncio.ensure_future(self.wait())
        self.signal(signal.SIGTERM)
        await asyncio.wait([waiting], timeout=grace_seconds)
        self.kill()
        return await waiting

    def signal(self, number: int) -> None:
        """Signal its first process."""
        if (first := self._first()) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, number)

    def kill(self) -> None:
        """KILL everything in it."""
        self._is_killed = True
        if self.is_running:
            # What is frozen dies of KILL as well. Ended before it has a first process: the outer one has to go.
            first = self._first()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid if first is None else first, signal.SIGKILL)  # type: ignore[union-attr]

    def freeze(self, *, is_frozen: bool) -> None:
        """STOP everything in it, or let it go on."""
        done: set[int] = set()
        # Again, because one of them may have forked before it was its turn.
        while new := set(self.pids()) - done:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP if is_frozen else signal.SIGCONT)
            done |= new

    def pids(self) -> list[int]:
        """Numbers of its processes, as the machine sees them."""
        found: list[int] = []
        first = self._first()
        left = [] if first is None else [first]
        while left:
            pid = left.pop()
            found.append(pid)
            left += _children(pid)
        return found

    def memory(self) -> int:
        """Bytes that its processes have, what they share counted once for each of them."""
        pages = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def _first(self) -> int | None:
        if not self.is_running:
            return None
        assert self._process is not None
        return next(iter(_children(self._process.pid)), None)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found
