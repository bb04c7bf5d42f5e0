"""Shell steps as detached processes that outlive the daemon.

Rule: what is known about a run is in its folder, never only in this process's memory.

    <root>/<run id>/script   what bash runs
                    output   stdout and stderr, appended by the step itself
                    claim    first line: pid of the wrapper that runs it, or `ended` (before it began);
                             second line once the script has ended: its status, or `cwd`

The wrapper (step.sh) leads a session of its own and carries the run's cookie in its environment, so it is recognised
by pid and cookie together however often the daemon restarts. While the wrapper is our child, its zombie is kept
until what the step left behind has been ended: until then nobody else can be given its number.

Nothing here starts a task: `wait` and `end` are coroutines of the caller's task.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fnmatch
import logging
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from oj_daemon import processes
from oj_daemon.errors import AdapterError
from oj_daemon.processes import COOKIE, Process

logger = logging.getLogger(__name__)

STEP_SH: Final = Path(__file__).with_name("step.sh")
SH: Final = "/bin/sh"

_RUN_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\Z")
_ENDED: Final = b"ended"
_CWD: Final = "cwd"
_RESET: Final = sorted(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP})
"""A step begins with every signal at its default: what the daemon's starter ignored (nohup) is not inherited."""
_KILL_ROUND: Final = 0.25
_POLL: Final = 0.05
_POLL_MOST: Final = 1.0
_HELD_MOST: Final = 64
_ABANDONED: Final = 5.0
_HOPELESS: Final = 10.0
"""Seconds of KILL after which a process is given up: it is stuck in the kernel."""


class RunSpec(msgspec.Struct, frozen=True):
    """One run of a shell step."""

    run_id: str
    """`<job id>/<run number>`: also the folder below the root."""
    script: str
    env: Mapping[str, str]
    """The whole environment; only the cookie is added."""
    cwd: Path
    umask: int = 0o022

    def __repr__(self) -> str:
        return f"RunSpec({self.run_id!r})"  # its environment holds secrets


class RunState(StrEnum):
    """What a run folder and the process table say about a run."""

    NEVER = "never"
    """No wrapper has claimed it. After a reboot this may also be a claim that never reached the disk."""
    RUNNING = "running"
    EXITED = "exited"
    LOST = "lost"
    """Claimed, the wrapper is gone, and there is no status: killed with SIGKILL, or the machine went down."""


class Found(msgspec.Struct, frozen=True):
    """A run as found on disk and in the process table."""

    state: RunState
    pid: int | None = None
    """The wrapper's, while running."""
    status: int | None = None
    """The script's, once exited; 128 + n after signal n; None when the working directory could not be entered."""
    detail: str = ""


class _Claim(msgspec.Struct, frozen=True):
    """What a claim file says so far."""

    pid: int | None
    """None while the wrapper has not written it yet, and for a run that was ended before it began."""
    is_ended: bool
    outcome: str | None


def _unguarded() -> None:
    """Stand in where one daemon is all there is."""


class Survivor(msgspec.Struct, frozen=True):
    """A process of a run."""

    run_id: str
    process: Process


class ShellRuns:
    """Starts, finds again, awaits and ends the runs below one root folder."""

    def __init__(
        self, root: Path, *, grace_seconds: float = 5.0, pidfd: bool | None = None
    ) -> None:
        self.root = root
        self.guard: Callable[[], None] = _unguarded
        """Raises when another daemon has taken over; asked when the run folder is there and nothing runs in it yet."""
        self.instance = _instance(root)
        self.grace_seconds = grace_seconds
        self._pidfd = processes.has_pidfd() if pidfd is None else pidfd
        self._spare = processes.descriptor_limit() // 2
        """Process descriptors that may still be opened: the other half is for everything else. Past that we poll."""
        self._adopts_orphans = processes.is_subreaper()
        self._children: dict[str, int] = {}
        """Wrappers that are our children and not yet collected."""
        self._waiters: dict[str, int] = {}
        self._bash: dict[str, str] = {}
        self._zombies: dict[Process, float] = {}
        """Orphans that came to us and ended, and when we first saw that."""
        processes.seal_descriptors()

    # -- one run ---------------------------------------------------------------------------------------------------

    def folder(self, run_id: str) -> Path:
        """Where a run keeps its files."""
        if not _RUN_ID.match(run_id):
            raise AdapterError(f"'{run_id}' cannot name a run", code="invalid")
        return self.root / run_id

    def cookie(self, run_id: str) -> str:
        """What marks the processes of a run: `<instance of this root>:<job id>:<run number>`."""
        return f"{self.instance}:{run_id.replace('/', ':')}"

    def start(self, spec: RunSpec) -> Found:
        """Start a run unless it was started before; says what it found instead in that case."""
        folder = self.folder(spec.run_id)
        if spec.run_id in self._children:
            return Found(RunState.RUNNING, pid=self._children[spec.run_id])
        if folder.exists() and (found := self.adopt(spec.run_id)).state is not RunState.NEVER:
            return found
        bash = self._find_bash(spec.env.get("PATH", os.defpath))
        if not spec.cwd.is_absolute() or not spec.cwd.is_dir():
            raise AdapterError(
                f"start a step in {spec.cwd}: there is no such directory",
                code="cwd",
                hint="check `cwd` in the runbook; an earlier step may have to create it",
            )
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A wrapper of an earlier daemon may be about to read it: never truncated in place.
            fresh = folder / f"script.{os.getpid()}"
            fresh.write_bytes(spec.script.encode("utf-8", "surrogateescape") + b"\n")
            fresh.replace(folder / "script")
        except OSError as error:
            raise AdapterError(
                f"write the run folder {folder}: {error.strerror}", code=_code(error)
            ) from error
        # Here and not earlier: whoever took over while we were stopped may have run this to its end and removed the
        # folder, and we have just made it again. If that happens from here on, there is nothing to start in.
        self.guard()
        pid = self._spawn(spec, folder, bash)
        self._children[spec.run_id] = pid
        return Found(RunState.RUNNING, pid=pid)

    def adopt(self, run_id: str) -> Found:
        """What became of a run, from its folder and the process table alone."""
        claim = self._claim(run_id)
        if claim is None:
            return Found(RunState.NEVER)
        if claim.outcome is None and (pid := self._wrapper_at_work(run_id, claim)) is not None:
            return Found(RunState.RUNNING, pid=pid)
        # It may have ended between the two looks.
        claim = self._claim(run_id) or claim
        if claim.outcome == _CWD:
            detail = "the working directory is gone or cannot be entered"
            return Found(RunState.EXITED, detail=detail)
        if claim.outcome is not None:
            return Found(RunState.EXITED, status=int(claim.outcome))
        if claim.is_ended:
            return Found(RunState.LOST, detail="ended before it began")
        return Found(RunState.LOST, detail="its wrapper is gone and left no exit status")

    def exit_status(self, run_id: str) -> int | None:
        """The script's exit status, None while there is none."""
        claim = self._claim(run_id)
        return int(claim.outcome) if claim and claim.outcome not in {None, _CWD} else None

    async def wait(self, run_id: str) -> Found:
        """Return once the run has ended and everything it started is gone: EXITED, LOST, or NEVER if never started.

        Cancelling the wait leaves the run alone.
        """
        self._waiters[run_id] = self._waiters.get(run_id, 0) + 1
        code: int | None = None
        try:
            is_swept = False
            while (pid := self._children.get(run_id) or self.adopt(run_id).pid) is not None:
                await self._until_gone(run_id, pid)
                code = await self._finish(run_id, pid)
                is_swept = True
            found = self.adopt(run_id)
            if is_swept and found.state is RunState.NEVER:
                found = Found(RunState.LOST, detail="its run folder is gone")
            elif not is_swept and found.state is not RunState.NEVER:
                # It ended while no daemon was looking.
                await self._clear([run_id], self.grace_seconds)
        finally:
            self._waiters[run_id] -= 1
            if not self._waiters[run_id]:
                del self._waiters[run_id]
        if found.state is RunState.LOST and code is not None and code >= 0:
            # The folder did not take the status (a full disk), but the wrapper told its parent.
            return Found(RunState.EXITED, status=code)
        return found

    async def end(self, *run_ids: str, grace_seconds: float | None = None) -> list[Process]:
        """End runs with everything they started: TERM, KILL after the grace period, until nothing is left.

        Returns what could not be ended: processes of another user, or stuck in the kernel. A run that has not begun
        will not begin.
        """
        for run_id in run_ids:
            self._forbid(run_id)
        left = await self._clear(
            run_ids, self.grace_seconds if grace_seconds is None else grace_seconds
        )
        for run_id in run_ids:
            if run_id in self._children and run_id not in self._waiters:
                self._collect(run_id)
        return left

    def remove(self, run_id: str) -> None:
        """Forget a finished run's files; the job's folder goes with its last run."""
        folder = self.folder(run_id)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            if folder.parent != self.root:
                folder.parent.rmdir()

    # -- the whole machine -----------------------------------------------------------------------------------------

    def survivors(self) -> list[Survivor]:
        """Every process that carries a cookie of this root, whatever became of its run."""
        prefix = f"{self.instance}:"
        return [
            Survivor(run_id=cookie.removeprefix(prefix).replace(":", "/"), process=process)
            for process, cookie in processes.carriers(prefix)
        ]

    def wrappers(self) -> set[int]:
        """Our children that nobody but us may collect."""
        return set(self._children.values())

    async def be_init(self, seconds: float) -> None:
        """Collect orphans for ever: as the first process of a container we get those of each `docker exec`, too."""
        while True:
            await asyncio.sleep(seconds)
            self._bury_orphans(processes.children() or [])

    # -- starting --------------------------------------------------------------------------------------------------

    def _find_bash(self, path: str) -> str:
        found = (
            self._bash.get(path)
            or shutil.which("bash", path=path)
            or shutil.which("bash", path=os.defpath)
        )
        if found is None:
            raise AdapterError(
                f"start a step: there is no bash on PATH ({path})",
                code="bash",
                hint="install bash, or set PATH in the step",
            )
        self._bash[path] = found
        return found

    def _spawn(self, spec: RunSpec, folder: Path, bash: str) -> int:
        # A step that itself runs `oj` keeps the outer cookies: ending the outer step ends the inner ones.
        outer = spec.env.get(COOKIE, "")
        env = {**spec.env, COOKIE: f"{self.cookie(spec.run_id)} {outer}".rstrip()}
        files = str(processes.inherited_descriptor_limit())
        try:
            return os.posix_spawn(
                SH,
                ["sh", str(STEP_SH), str(folder), str(spec.cwd), bash, f"{spec.umask:04o}", files],
                env,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (
                        os.POSIX_SPAWN_OPEN,
                        1,
                        str(folder / "output"),
                        os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                        0o600,
                    ),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=_RESET,
            )
        except ValueError as error:  # NUL in a value, "=" in a name
            raise AdapterError(
                f"start a step of {spec.run_id}: {error} in its environment", code="invalid"
            ) from error
        except OSError as error:
            raise AdapterError(
                f"start a step of {spec.run_id}: {_spawn_trouble(error, env)}", code=_code(error)
            ) from error

    def _forbid(self, run_id: str) -> None:
        """Claim a run that has not begun, so that a wrapper still on its way to its claim gives up."""
        path = self.folder(run_id) / "claim"
        # Begun already; or nothing was ever started here.
        with contextlib.suppress(FileExistsError, FileNotFoundError), path.open("xb") as file:
            file.write(_ENDED + b"\n")

    # -- finding ---------------------------------------------------------------------------------------------------

    def _claim(self, run_id: str) -> _Claim | None:
        try:
            data = (self.folder(run_id) / "claim").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        who, what, *_ = [*data.split(b"\n")[:-1], None, None]
        outcome = what.decode(errors="replace") if what is not None else None
        return _Claim(
            pid=int(who) if who and who.isdigit() else None,
            is_ended=who == _ENDED,
            outcome=outcome if outcome == _CWD or (outcome or "").isdecimal() else None,
        )

    def _wrapper_at_work(self, run_id: str, claim: _Claim) -> int | None:
        """Pid of the live wrapper that made this claim."""
        if claim.is_ended:
            return None
        cookie = self.cookie(run_id)
        if (pid := claim.pid) is not None:
            process = processes.look(pid)
            is_alive = process is not None and not process.is_zombie
            return pid if is_alive and cookie in processes.cookies_of(pid) else None
        # Created but not yet written, or never to be: the wrapper is the session leader that has the cookie.
        for process in processes.family(processes.table(), cookies=[cookie]):
            if process.session == process.pid:
                return process.pid
        return None

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def _until_gone(self, run_id: str, pid: int) -> None:
        """Return when the wrapper has ended; our own stays a zombie."""
        if self._children.get(run_id) == pid:
            # Neither error means more than that somebody else collected it.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                if self._pidfd and self._spare > 0:
                    self._spare -= 1
                    try:
                        await _readable([os.pidfd_open(pid)], None)
                    finally:
                        self._spare += 1
                while not _has_ended(pid):  # noqa: ASYNC110 - the kernel has no event to wait for
                    await asyncio.sleep(_POLL)
            return
        process = processes.look(pid)
        if process is None or self.cookie(run_id) not in processes.cookies_of(pid):
            return
        await self._until_all_gone([process], None)

    async def _finish(self, run_id: str, pid: int) -> int | None:
        """After the wrapper's end: end what the step left behind, collect the wrapper; its exit code if it was ours."""
        is_child = self._children.get(run_id) == pid
        claim = self._claim(run_id)
        is_late = is_child and claim is not None and claim.pid != pid
        if claim is not None and is_late and self._wrapper_at_work(run_id, claim):
            # Another wrapper was there first, and is at work: this one only looked in.
            self._collect(run_id)
            return None
        if claim is None:
            self._forbid(run_id)  # killed before it could claim: it must not begin later either
        try:
            if self._left_something(run_id, pid, is_child=is_child):
                await self._clear([run_id], self.grace_seconds)
        finally:
            code = self._collect(run_id) if is_child else None
        # Without a claim of its own the wrapper's exit code says nothing about the script.
        return None if claim is None or is_late else code

    def _left_something(self, run_id: str, pid: int, *, is_child: bool) -> bool:
        """Whether processes of the run may still be alive; cheap where orphans become our children."""
        young = processes.children() if is_child and self._adopts_orphans else None
        if young is None:
            return True
        cookie = self.cookie(run_id)
        alive = self._bury_orphans(young)
        return any(
            process.session == pid or cookie in processes.cookies_of(process.pid)
            for process in alive
        )

    def _bury_orphans(self, young: Iterable[int]) -> list[Process]:
        """Collect those of our children that are orphans and have ended; returns all that have not, but for wrappers."""
        wrappers = set(self._children.values())
        zombies: set[Process] = set()
        alive = []
        for child in young:
            if child in wrappers or (process := processes.look(child)) is None:
                continue
            if process.is_zombie:
                zombies.add(process)
                self._bury(process, wrappers)
            else:
                alive.append(process)
        self._zombies = {
            zombie: since for zombie, since in self._zombies.items() if zombie in zombies
        }
        return alive

    def _collect_orphans(self, pids: Collection[int]) -> None:
        """Collect processes of a step that ended as our children; its wrapper stays for `_collect`."""
        if self._adopts_orphans:
            for pid in set(pids) - set(self._children.values()):
                with contextlib.suppress(ChildProcessError):  # somebody else's child, as a rule
                    os.waitpid(pid, os.WNOHANG)

    def _bury(self, zombie: Process, wrappers: Collection[int]) -> None:
        """Collect an orphan that came to us and ended. Children of other modules are theirs to collect.

        Those are in our own session as a rule; for one that is not, its owner gets some seconds to do it.
        """
        since = self._zombies.setdefault(zombie, time.monotonic())
        is_of_a_step = zombie.session in wrappers
        is_abandoned = zombie.session != os.getsid(0) and time.monotonic() - since > _ABANDONED
        if is_of_a_step or is_abandoned:
            self._collect_orphans([zombie.pid])

    # -- ending ----------------------------------------------------------------------------------------------------

    async def _clear(self, run_ids: Sequence[str], grace_seconds: float) -> list[Process]:
        """TERM, then KILL, everything of these runs until a look at the whole machine finds nothing."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        known: dict[int, Process] = {}
        asked: set[Process] = set()
        refused: set[Process] = set()
        pause = _POLL
        is_spared = True
        while True:
            members = self._members(run_ids, known.values())
            known.update((member.pid, member) for member in members)
            self._collect_orphans(known.keys() - {member.pid for member in members})
            hopeful = [member for member in members if member not in refused]
            left = grace_seconds - (loop.time() - began)
            if not hopeful or left < -_HOPELESS:
                if members:
                    pids = [member.pid for member in members]
                    logger.warning("processes of %s cannot be ended: %s", ", ".join(run_ids), pids)
                return members
            wrappers = self._wrappers(run_ids)
            if left > 0:
                # CONT, because a stopped process does not hear TERM.
                signals: tuple[int, ...] = (signal.SIGTERM, signal.SIGCONT)
                targets = [member for member in hopeful if member not in asked]
                asked.update(
                    member for member in targets if not _is_embryo(member, wrappers, known)
                )
                # Some may be started while we wait, and they want to be asked too.
                patience = min(pause, left)
                pause = min(pause * 2, _POLL_MOST)
            else:
                # The wrapper goes last: it still has the script's end to record.
                signals = (signal.SIGKILL,)
                others = [member for member in hopeful if member.pid not in wrappers]
                targets = others if is_spared and others else hopeful
                patience = _KILL_ROUND
                is_spared = False
            for member in targets:
                try:
                    processes.send(member, *signals, pidfd=self._pidfd)
                except PermissionError:
                    refused.add(member)
            hopeful = [member for member in hopeful if member not in refused]
            await self._until_all_gone(hopeful, patience)

    def _members(self, run_ids: Sequence[str], known: Collection[Process]) -> list[Process]:
        everyone = processes.table()
        # A wrapper that we have not collected proves its session even when it is a zombie already.
        roots = [
            everyone[pid] for run_id in run_ids if (pid := self._children.get(run_id)) in everyone
        ]
        cookies = [self.cookie(run_id) for run_id in run_ids]
        return processes.family(everyone, cookies=cookies, roots=[*known, *roots])

    def _wrappers(self, run_ids: Sequence[str]) -> set[int]:
        claims = map(self._claim, run_ids)
        pids = {claim.pid for claim in claims if claim is not None and claim.pid is not None}
        return pids | {self._children[run_id] for run_id in run_ids if run_id in self._children}

    async def _until_all_gone(self, members: Sequence[Process], seconds: float | None) -> None:
        """Return when all of them have ended, or after so many seconds."""
        room = min(_HELD_MOST, self._spare)
        if self._pidfd and room > 0:
            # Not all of a fork bomb at once: descriptors are limited, and the caller looks again.
            held = map(processes.hold, members[:room])
            fds = [fd for fd in held if fd is not None]
            self._spare -= len(fds)
            try:
                await _readable(fds, seconds)
            finally:
                self._spare += len(fds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(map(processes.is_same, members)):  # noqa: ASYNC110 - the same
                    await asyncio.sleep(_POLL)

    def _collect(self, run_id: str) -> int | None:
        """Take the wrapper's zombie away; its exit code (negative: signal), None while it lives."""
        pid = self._children.get(run_id)
        if pid is None:
            return None
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            done, status = pid, 0
        if not done:
            return None
        del self._children[run_id]
        return os.waitstatus_to_exitcode(status)


def _is_embryo(member: Process, wrappers: Collection[int], known: Mapping[int, Process]) -> bool:
    """A copy of the wrapper that has not yet become bash: it may still swallow a TERM in the wrapper's handler."""
    parent = known.get(member.ppid)
    return member.ppid in wrappers and parent is not None and parent.name == member.name


def _has_ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


# -- environment --------------------------------------------------------------------------------------------------

PASSED: Final = (
    *(
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "LC_*",
        "TZ",
        "TMPDIR",
        "SSH_AUTH_SOCK",
        "XDG_*",
    ),
    # How this machine reaches the network: without these, steps that install something fail behind a proxy.
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *(
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "GIT_SSL_CAINFO",
    ),
    *(
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "PIP_CONFIG_FILE",
        "PIP_CERT",
        "PIP_TRUSTED_HOST",
        "UV_*INDEX*",
    ),
    # Cookies of the steps that this daemon itself runs in.
    COOKIE,
)
"""Names that steps inherit from whoever started the daemon; patterns as in file names."""

_NEVER: Final = (
    # Would redirect git in a step to another repository.
    *(
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_COMMON_DIR",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
    ),
    *(
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_NAMESPACE",
        "GIT_CONFIG",
        "GIT_CONFIG_*",
        "GIT_GRAFT_FILE",
    ),
    *(
        "GIT_SHALLOW_FILE",
        "GIT_INTERNAL_*",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_REPLACE_REF_BASE",
    ),
    # Would run other text before the script, or change what its words mean.
    *(
        "BASH_ENV",
        "ENV",
        "BASH_FUNC_*",
        "SHELLOPTS",
        "BASHOPTS",
        "IFS",
        "PS4",
        "CDPATH",
        "POSIXLY_CORRECT",
    ),
    # Where the starter was.
    *("PWD", "OLDPWD", "SHLVL", "_"),
)


def base_env(inherited: Mapping[str, str], extra_names: Sequence[str] = ()) -> dict[str, str]:
    """What steps get of the daemon's environment: an allow-list, so that the starting shell does not leak into jobs.

    `extra_names` adds names and patterns (`AWS_*`); what would turn a step's git or bash into something else stays out.
    """
    wanted = _matcher((*PASSED, *extra_names))
    never = _matcher(_NEVER)
    env = {
        name: value
        for name, value in inherited.items()
        if wanted.match(name) and not never.match(name)
    }
    env.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    return env


def _matcher(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


# -- files --------------------------------------------------------------------------------------------------------


def _instance(root: Path) -> str:
    """The identity of a root folder, made once: cookies of two state folders never look alike."""
    path = root / "instance"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if name := path.read_text().strip():
                return name
        fresh = root / f"instance.{os.getpid()}"
        fresh.write_text(secrets.token_hex(6) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)  # the first one stays
        fresh.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise AdapterError(
            f"use {root} for the runs of steps: {error.strerror}", code=_code(error)
        ) from error


def _code(error: OSError) -> str:
    return {
        errno.ENOSPC: "disk",
        errno.EDQUOT: "disk",
        errno.EROFS: "disk",
        errno.EACCES: "permission",
    }.get(error.errno or 0, "spawn")


def _spawn_trouble(error: OSError, env: Mapping[str, str]) -> str:
    if error.errno == errno.E2BIG:
        name, size = max(
            ((name, len(os.fsencode(value))) for name, value in env.items()),
            key=lambda pair: pair[1],
        )
        return (
            f"its environment is too big; the largest value is {name} with {size // 1024} KB "
            "(Linux allows 128 KB for one value): pass large values in files"
        )
    return error.strerror or str(error)


async def _readable(fds: Sequence[int], seconds: float | None) -> None:
    """Return when every descriptor is readable, or after so many seconds; closes them in any case."""
    loop = asyncio.get_running_loop()
    waiting = set(fds)
    done: asyncio.Future[None] = loop.create_future()

    def ready(fd: int) -> None:
        loop.remove_reader(fd)
        waiting.discard(fd)
        if not waiting and not done.done():
            done.set_result(None)

    try:
        for fd in fds:
            loop.add_reader(fd, ready, fd)
        if waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await done
    finally:
        for fd in waiting:
            loop.remove_reader(fd)
        for fd in fds:
            os.close(fd)
