"""Shell steps inside of the sidecar's place: start once, read the output from anywhere, keep the status until it is fetched.

Rule: the caller names the run, and a name means one run for ever. What is known about a run is in its folder (see
`oj_daemon.shell`), so nothing depends on who is connected. Ending a run ends everything that it started.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from oj_daemon.errors import AdapterError, Rejected
from oj_daemon.shell import Found, RunSpec, RunState, ShellRuns
from oj_daemon.sidecar.tasks import Spawn

logger = logging.getLogger(__name__)

OUTPUT_MOST: Final = 256 * 1024
"""Bytes of output in one reply."""
GROWTH_SECONDS: Final = 0.2
"""How often an output that somebody waits for is looked at, at least."""
_SOON: Final = 0.02
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class ExecRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to run: either words or a bash script (`set -euo pipefail`)."""

    id: str
    argv: tuple[str, ...] = ()
    script: str = ""
    env: Mapping[str, str] = {}
    """On top of the sidecar's own, unless `inherit` is false."""
    cwd: str = ""
    umask: int = 0o022
    inherit: bool = True


class ExecView(msgspec.Struct, frozen=True):
    """How a run is doing."""

    id: str
    state: str
    """running, exited or lost"""
    status: int | None
    """The script's, once exited; 128 + n after signal n."""
    output_size: int
    detail: str = ""
    created: bool = False
    """This very request started it."""


class Execs:
    """The runs of this sidecar."""

    def __init__(self, root: Path, env: Mapping[str, str], spawn: Spawn, cwd: Path) -> None:
        self._runs = ShellRuns(root)
        self._env = env
        self._spawn = spawn
        self._cwd = cwd
        self._ended: dict[str, asyncio.Event] = {}
        self._final: dict[str, Found] = {}
        """How runs ended that were seen ending: more than the folder of one says when the disk was full."""

    def recover(self) -> None:
        """Take up what a sidecar before this one left in the folder: what still runs, how others ended, what is lost."""
        for claim in sorted(self._runs.root.rglob("claim")):
            run_id = claim.parent.relative_to(self._runs.root).as_posix()
            if _ID.fullmatch(run_id) and run_id not in self._ended:
                self._follow(run_id)

    @property
    def wrappers(self) -> set[int]:
        """Children of ours that only this may collect."""
        return self._runs.wrappers()

    def start(self, request: ExecRequest) -> ExecView:
        """Start a run, or say how the one of that name is doing."""
        if bool(request.argv) == bool(request.script):
            raise Rejected("start a run: give either argv or script", code="invalid")
        if not _ID.fullmatch(request.id):
            raise Rejected(f"start a run: '{request.id}' cannot name one", code="invalid")
        if request.id in self._ended:
            return self.view(request.id)
        script = request.script or f"exec {shlex.join(request.argv)}"
        env = {**(self._env if request.inherit else {}), **request.env}
        cwd = self._cwd / request.cwd
        self._runs.start(
            RunSpec(run_id=request.id, script=script, env=env, cwd=cwd, umask=request.umask)
        )
        self._follow(request.id)
        return msgspec.structs.replace(self.view(request.id), created=True)

    def view(self, run_id: str) -> ExecView:
        """How a run is doing; Rejected when there is none of that name."""
        done = self._known(run_id)
        if not done.is_set():
            # Not over before everything that it started is gone as well.
            return ExecView(run_id, "running", None, self.size(run_id))
        found = self._final.get(run_id) or self._runs.adopt(run_id)
        state = found.state
        name = "exited" if state is RunState.EXITED else "lost"
        status = found.status
        if name == "exited" and status is None:
            status = 125
        return ExecView(run_id, name, status, self.size(run_id), found.detail)

    def list(self) -> list[ExecView]:
        """Every run that was not forgotten."""
        return [self.view(run_id) for run_id in self._ended]

    def size(self, run_id: str) -> int:
        """Bytes of output so far."""
        try:
            return (self._runs.folder(run_id) / "output").stat().st_size
        except OSError:
            return 0

    def output(self, run_id: str, offset: int, limit: int | None = None) -> bytes:
        """Output from a place on; empty at its end."""
        self._known(run_id)
        try:
            with (self._runs.folder(run_id) / "output").open("rb") as file:
                file.seek(max(offset, 0))
                return file.read(OUTPUT_MOST if limit is None else min(limit, OUTPUT_MOST))
        except FileNotFoundError:
            return b""

    async def wait(self, run_id: str, seconds: float | None) -> ExecView:
        """Return once the run is over, or after so many seconds."""
        done = self._known(run_id)
        try:
            async with asyncio.timeout(seconds):
                await done.wait()
        except TimeoutError:
            pass
        return self.view(run_id)

    async def grown(self, run_id: str, offset: int, seconds: float) -> None:
        """Return once there is output past a place, once the run is over, or after so many seconds."""
        done = self._known(run_id)
        deadline = asyncio.get_running_loop().time() + seconds
        pause = _SOON
        while self.size(run_id) <= offset and not done.is_set():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await self.wait(run_id, min(pause, left))
            pause = min(pause * 2, GROWTH_SECONDS)

    async def end(self, run_id: str, grace_seconds: float) -> ExecView:
        """End a run and everything that it started."""
        done = self._known(run_id)
        if not done.is_set():
            left = await self._runs.end(run_id, grace_seconds=grace_seconds)
            if left:
                pids = ", ".join(str(process.pid) for process in left)
                raise AdapterError(f"end run {run_id}: these processes do not end: {pids}")
            await done.wait()
        return self.view(run_id)

    async def end_all(self, grace_seconds: float) -> None:
        """End what still runs."""
        running = [run_id for run_id, done in self._ended.items() if not done.is_set()]
        if running:
            await self._runs.end(*running, grace_seconds=grace_seconds)

    def forget(self, run_id: str) -> None:
        """Remove what is known about a run that is over."""
        if not self._known(run_id).is_set():
            raise Rejected(f"forget run {run_id}: it is still running", code="conflict")
        del self._ended[run_id]
        self._final.pop(run_id, None)
        self._runs.remove(run_id)

    def _known(self, run_id: str) -> asyncio.Event:
        if run_id not in self._ended:
            raise Rejected(f"there is no run '{run_id}'", code="not_found")
        return self._ended[run_id]

    def _follow(self, run_id: str) -> None:
        self._ended[run_id] = asyncio.Event()
        self._spawn(self._watch(run_id))

    async def _watch(self, run_id: str) -> None:
        try:
            self._final[run_id] = await self._runs.wait(run_id)
        finally:
            self._ended[run_id].set()
