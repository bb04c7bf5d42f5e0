"""One program in a terminal of its own: start, pump, resize, signal, see its end, end all it started.

Rule: the only owner of the terminal's descriptors. Output never waits for anybody; input waits for the program, within
limits. The end of the program is what the kernel says about its pid, never what the terminal says: others may hold it open.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import signal
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from oj_daemon import processes
from oj_daemon.errors import AdapterError
from oj_daemon.processes import COOKIE, Process
from oj_daemon.sidecar.keys import Reach

logger = logging.getLogger(__name__)

READ_MOST: Final = 256 * 1024
"""Bytes taken in one go; between two goes everybody else has a turn."""
DRAIN_MOST: Final = 4 * 1024 * 1024
"""Bytes still taken after the program's end; more can only come from somebody who floods."""
WRITE_MOST: Final = 1024 * 1024
"""Bytes that wait for a program that does not read."""
REPLY_MOST: Final = 64 * 1024
"""Beyond that, answers to the program's questions are dropped: it asks and does not listen."""
_POLL: Final = 0.05
_KILL_ROUND: Final = 0.25
_HOPELESS: Final = 10.0
_RESET: Final = sorted(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP})


class Ended(NamedTuple):
    """How a program ended: one of the two is set, or neither when nobody knows."""

    code: int | None
    signal: int | None

    @property
    def status(self) -> int:
        """As a shell would say it."""
        if self.signal is not None:
            return 128 + self.signal
        return 1 if self.code is None else self.code


class Launch(msgspec.Struct, frozen=True):
    """What to start."""

    argv: Sequence[str]
    env: Mapping[str, str]
    """Whole, cookie included."""
    cols: int
    rows: int


class Pty:
    """One program from its start to its end."""

    def __init__(
        self,
        launch: Launch,
        *,
        on_output: Callable[[bytes], None],
        on_exit: Callable[[Ended], None],
    ) -> None:
        self._on_output = on_output
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._written: asyncio.Event = asyncio.Event()
        self._written.set()
        self.bytes_written = 0
        self.ended: Ended | None = None
        self.gone = asyncio.Event()
        """Set with `ended`."""
        self._cookies = [launch.env[COOKIE].split()[0]]
        # Ours stays open: without it the terminal is "hung up" whenever no other process happens to hold it.
        self._master, self._slave = os.openpty()
        try:
            _set_size(self._master, launch.cols, launch.rows)
            os.set_blocking(self._master, False)
            self.pid = _spawn(launch, os.ttyname(self._slave))
        except BaseException:
            self._close()
            raise
        found = processes.look(self.pid)
        self._root = found
        self._loop.add_reader(self._master, self._read)
        self._pidfd: int | None = None
        with contextlib.suppress(OSError, AttributeError):
            self._pidfd = os.pidfd_open(self.pid)
        if self._pidfd is not None:
            self._loop.add_reader(self._pidfd, self.look)
        else:
            self._loop.call_later(_POLL, self._poll)

    # -- output ----------------------------------------------------------------------------------------------------

    def _read(self, most: int = READ_MOST) -> bool:
        """Take what is there; False when nothing was."""
        parts = []
        taken = 0
        while taken < most:
            try:
                data = os.read(self._master, 65536)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EIO:
                    logger.warning("read the terminal: %s", error)
                self._loop.remove_reader(self._master)
                break
            if not data:
                self._loop.remove_reader(self._master)
                break
            parts.append(data)
            taken += len(data)
        if parts:
            self._on_output(b"".join(parts))
        return bool(parts)

    # -- input -----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Hand bytes to the program, after those that still wait."""
        if self.ended is not None:
            raise AdapterError("type into the agent: it has ended", code="exited")
        if len(self._waiting) + len(data) > WRITE_MOST:
            raise AdapterError("type into the agent: it does not read its input", code="busy")
        self.bytes_written += len(data)
        self._waiting += data
        self._flush()

    def reply(self, data: bytes) -> None:
        """The terminal's answer to a question of the program."""
        if self.ended is None and len(self._waiting) < REPLY_MOST:
            self._waiting += data
            self._flush()

    async def written(self, seconds: float) -> None:
        """Return when the program's terminal has taken everything; what it does not take in that time is dropped."""
        try:
            async with asyncio.timeout(seconds):
                await self._written.wait()
        except TimeoutError:
            dropped = len(self._waiting)
            self._waiting.clear()
            self._flush()
            raise AdapterError(
                f"type into the agent: it does not read its input; {dropped} bytes were dropped",
                code="busy",
            ) from None

    def _flush(self) -> None:
        try:
            while self._waiting:
                count = os.write(self._master, self._waiting[:4096])
                del self._waiting[:count]
        except BlockingIOError:
            self._written.clear()
            self._loop.add_writer(self._master, self._flush)
            return
        except OSError as error:
            logger.warning("write to the terminal: %s", error)
            self._waiting.clear()
        self._loop.remove_writer(self._master)
        self._written.set()

    def resize(self, cols: int, rows: int) -> None:
        """Tell the kernel, which tells the program."""
        if self._master >= 0:
            _set_size(self._master, cols, rows)

    # -- signals ---------------------------------------------------------------------------------------------------

    def signal(self, number: int, reach: Reach) -> None:
        """Send a signal; AdapterError when there is nobody to get it."""
        if self.ended is not None:
            raise AdapterError("signal the agent: it has ended", code="exited")
        with contextlib.suppress(ProcessLookupError):
            if reach is Reach.CHILD:
                os.kill(self.pid, number)
            elif reach is Reach.GROUP or (group := self._foreground()) is None:
                os.killpg(self.pid, number)
            else:
                os.killpg(group, number)

    def _foreground(self) -> int | None:
        with contextlib.suppress(OSError):
            group = os.tcgetpgrp(self._master)
            return group if group > 1 and group != os.getpgrp() else None
        return None

    # -- the end ---------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """See whether the program has ended; if so, say so once, after its last output."""
        if self.ended is not None:
            return
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = self.pid, None
        if pid == 0:
            return
        code = None if status is None else os.waitstatus_to_exitcode(status)
        taken = 0
        while taken < DRAIN_MOST and self._read():
            taken += READ_MOST
        if code is None:
            self.ended = Ended(None, None)
        else:
            self.ended = Ended(None, -code) if code < 0 else Ended(code, None)
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        self._waiting.clear()
        self._flush()
        self.gone.set()
        self._on_exit(self.ended)

    def _poll(self) -> None:
        self.look()
        if self.ended is None:
            self._loop.call_later(_POLL, self._poll)

    async def end(self, *, hang_up_seconds: float) -> list[Process]:
        """End the program and everything it started: HUP, KILL after the grace, until a look at the machine finds nothing.

        Returns what could not be ended.
        """
        known: dict[int, Process] = {} if self._root is None else {self._root.pid: self._root}
        asked: set[Process] = set()
        began = self._loop.time()
        has_pidfd = processes.has_pidfd()
        while True:
            # Off the loop: the table of a big machine takes milliseconds, and the API stays alive meanwhile.
            members = await asyncio.to_thread(self._family, list(known.values()))
            known.update((member.pid, member) for member in members)
            self.look()
            members = [member for member in members if not self._is_over(member)]
            waited = self._loop.time() - began
            if not members or waited > hang_up_seconds + _HOPELESS:
                return members
            is_patient = waited < hang_up_seconds
            for member in members:
                if is_patient and member in asked:
                    continue
                asked.add(member)
                # CONT, because a stopped process does not hear HUP. Those in other sessions know no HUP of ours: TERM.
                kind = signal.SIGHUP if member.session == self.pid else signal.SIGTERM
                numbers = (kind, signal.SIGCONT) if is_patient else (signal.SIGKILL,)
                with contextlib.suppress(PermissionError):
                    processes.send(member, *numbers, pidfd=has_pidfd)
            patience = hang_up_seconds - waited if is_patient else _KILL_ROUND
            await self._until_over(members, min(max(patience, 0.01), _KILL_ROUND))

    def _family(self, roots: Sequence[Process]) -> list[Process]:
        return processes.family(processes.table(), cookies=self._cookies, roots=roots)

    def _is_over(self, member: Process) -> bool:
        return member.pid == self.pid and self.ended is not None

    async def _until_over(self, members: Sequence[Process], seconds: float) -> None:
        deadline = self._loop.time() + seconds
        while self._loop.time() < deadline:
            self.look()
            if not any(
                processes.is_same(member) for member in members if not self._is_over(member)
            ):
                return
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Let go of the terminal."""
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._master >= 0:
            self._loop.remove_reader(self._master)
            self._loop.remove_writer(self._master)
        self._close()

    def _close(self) -> None:
        for fd in (self._master, self._slave):
            if fd >= 0:
                os.close(fd)
        self._master = self._slave = -1


def _set_size(fd: int, cols: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def _spawn(launch: Launch, terminal: str) -> int:
    name = launch.argv[0]
    path = shutil.which(name, path=launch.env.get("PATH", os.defpath))
    if path is None:
        reason = (
            "it is not executable or not there" if os.sep in name else "no such program on the PATH"
        )
        raise AdapterError(f"start {name}: {reason}", code="spawn")
    try:
        return os.posix_spawn(
            str(Path(path).absolute()),
            list(launch.argv),
            dict(launch.env),
            # The first terminal that a session leader opens becomes its own.
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, terminal, os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, 0, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=_RESET,
        )
    except (OSError, ValueError) as error:
        raise AdapterError(f"start {name}: {error}", code="spawn") from error
