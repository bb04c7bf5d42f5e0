"""Which processes of this machine belong to a step, and how to signal them without hitting a stranger.

Rule: a process is a pid *and* its start time. A number alone is never signalled, because numbers are given out again.

A process belongs to a step when its environment carries the step's cookie (`OJ_STEP`), when it shares a session or a
process group with one that does, or when it descends from one. Sessions and groups that a member is in were made
by the step itself (each wrapper starts a session of its own), and the kernel does not give a number out again while
a session or group still bears it, so a member proves the rest.

On Linux everything is read from /proc; elsewhere psutil answers the same questions.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import msgspec

COOKIE: Final = "OJ_STEP"
"""Environment variable of every process of a step.

Holds several cookies, separated by spaces, when one step runs in another.
"""

DESCRIPTORS: Final = 65_536
"""Enough open files for anything that one machine runs."""

_COOKIE_BYTES: Final = COOKIE.encode() + b"="
_LINUX: Final = sys.platform.startswith("linux")
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_GET_CHILD_SUBREAPER: Final = 37


class Process(msgspec.Struct, frozen=True):
    """One process as the kernel describes it."""

    pid: int
    ppid: int
    group: int
    session: int
    started: int
    """Clock ticks since boot on Linux, hundredths of a second elsewhere: only good for comparing."""
    is_zombie: bool = False
    """Ended, but not yet collected by its parent."""
    name: str = ""
    """Of the program it last executed, cut by the kernel."""


def look(pid: int) -> Process | None:
    """The process with that number, None when there is none."""
    return _look_linux(pid) if _LINUX else _look_portable(pid)


def table() -> dict[int, Process]:
    """Every process that we may see."""
    pids = _pids_linux() if _LINUX else _pids_portable()
    found = (look(pid) for pid in pids)
    return {process.pid: process for process in found if process is not None}


def cookies_of(pid: int) -> list[str]:
    """The step cookies in a process's environment; empty when it has none or belongs to someone else."""
    return _cookies_linux(pid) if _LINUX else _cookies_portable(pid)


def is_same(process: Process) -> bool:
    """The number still means that process, and it has not ended."""
    now = look(process.pid)
    return now is not None and now.started == process.started and not now.is_zombie


def family(
    everyone: Mapping[int, Process],
    *,
    cookies: Collection[str] = (),
    roots: Iterable[Process] = (),
    read_cookies: Callable[[int], Collection[str]] = cookies_of,
) -> list[Process]:
    """All live processes that carry one of the cookies or belong to a root: same session, same group or descent.

    Roots are processes known to be of the step; one whose number now means another process is dropped. Never contains
    this process, one of its ancestors, or anything in its own session and group that has no cookie.
    """
    spared = _lineage(everyone, os.getpid())
    mine = everyone.get(os.getpid())
    foreign_sessions = {0, mine.session if mine else 0}
    foreign_groups = {0, mine.group if mine else 0}
    members: dict[int, Process] = {}
    for root in roots:
        now = everyone.get(root.pid)
        if now is not None and now.started == root.started:
            members[now.pid] = now
    if cookies:
        wanted = frozenset(cookies)
        for process in everyone.values():
            is_kernel_thread = process.session == 0 and process.group == 0
            if (
                is_kernel_thread
                or process.is_zombie
                or process.pid in spared
                or process.pid in members
            ):
                continue
            if not wanted.isdisjoint(read_cookies(process.pid)):
                members[process.pid] = process
    grew = bool(members)
    while grew:
        sessions = {member.session for member in members.values()} - foreign_sessions
        groups = {member.group for member in members.values()} - foreign_groups
        more = [
            process
            for process in everyone.values()
            if process.pid not in members
            and process.pid not in spared
            and (process.session in sessions or process.group in groups or process.ppid in members)
        ]
        members.update((process.pid, process) for process in more)
        grew = bool(more)
    return [member for pid, member in members.items() if pid not in spared and not member.is_zombie]


def carriers(prefix: str) -> list[tuple[Process, str]]:
    """Every process of this machine with a cookie that starts with `prefix`, and that cookie."""
    everyone = table()
    spared = _lineage(everyone, os.getpid())
    found: list[tuple[Process, str]] = []
    for process in everyone.values():
        if (
            process.is_zombie
            or process.pid in spared
            or (process.session == 0 and process.group == 0)
        ):
            continue
        found += [
            (process, cookie) for cookie in cookies_of(process.pid) if cookie.startswith(prefix)
        ]
    return found


def _lineage(everyone: Mapping[int, Process], pid: int) -> set[int]:
    """The process, its ancestors, and the two numbers that `kill` reads as something else."""
    spared = {0, 1}
    while pid not in spared:
        spared.add(pid)
        parent = everyone.get(pid)
        pid = parent.ppid if parent else 0
    return spared


# -- signals ------------------------------------------------------------------------------------------------------


def has_pidfd() -> bool:
    """This kernel hands out process descriptors (Linux 5.3 and newer, and not forbidden by a sandbox)."""
    if not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def hold(process: Process) -> int | None:
    """A descriptor that can mean only this process, None when it is gone. The caller closes it."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if is_same(process):
        return fd
    os.close(fd)
    return None


def send(process: Process, *signals: int, pidfd: bool) -> bool:
    """Signal exactly this process; False when it is gone. PermissionError when it is not ours to end.

    With a descriptor the check and the signal cannot be separated by a reuse of the number; without, the gap between
    them is a few microseconds.
    """
    if process.pid <= 1 or process.pid == os.getpid():
        return False
    try:
        if not pidfd:
            if not is_same(process):
                return False
            for number in signals:
                os.kill(process.pid, number)
            return True
        fd = hold(process)
        if fd is None:
            return False
        try:
            for number in signals:
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)
    except ProcessLookupError:
        return False
    return True


# -- this process -------------------------------------------------------------------------------------------------


def become_subreaper() -> bool:
    """Make orphans below this process its children instead of init's; False where it cannot.

    With that, "did the step leave anything behind" is one look at our own children instead of at
    all processes of the machine.
    """
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def is_subreaper() -> bool:
    """Orphans below this process become its children."""
    flag = ctypes.c_int(0)
    if _LINUX and os.getpid() == 1:
        return True
    return _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag)) and bool(flag.value)


def _prctl(option: int, argument: object) -> bool:
    if not _LINUX:
        return False
    with contextlib.suppress(OSError, AttributeError):  # no libc to be found, no prctl in it
        return int(ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)) == 0
    return False


def children() -> list[int] | None:
    """Children of this process's main thread, which is where orphans arrive; None when the kernel does not say."""
    path = f"/proc/self/task/{os.getpid()}/children"
    try:
        return [int(word) for word in _read(path).split()]
    except OSError:
        return None


def collect_orphans(spared: Collection[int] = ()) -> None:
    """Collect ended processes that came to us as the subreaper, or as init; those of others are `spared`."""
    ours = children()
    if ours is None:
        ours = [process.pid for process in table().values() if process.ppid == os.getpid()]
    for pid in ours:
        if pid in spared:
            continue
        found = look(pid)
        if found is not None and found.is_zombie:
            with contextlib.suppress(ChildProcessError):  # somebody else was quicker
                os.waitpid(pid, os.WNOHANG)


def raise_descriptor_limit() -> None:
    """Let this process open as many files as it may: each running step takes one. Steps get the old limit back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(
        OSError, ValueError
    ):  # what the kernel says is not always what it takes
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        _born_with.append(soft)


def descriptor_limit() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def inherited_descriptor_limit() -> int:
    """How many files a process may have open by default here, which is not much: some programs close them all."""
    return _born_with[0] if _born_with else descriptor_limit()


_born_with: list[int] = []
"""The limit before it was raised."""


def seal_descriptors() -> None:
    """Keep descriptors that this process was born with from reaching steps; Python's own are sealed already."""
    for name in os.listdir("/proc/self/fd" if _LINUX else "/dev/fd"):  # noqa: PTH208 - names only
        fd = int(name)
        if fd > 2:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                os.set_inheritable(fd, False)


# -- Linux --------------------------------------------------------------------------------------------------------


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while data := os.read(fd, 65536):  # a list of children comes in pieces that are not full
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(fd)


def _pids_linux() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - hot


def _look_linux(pid: int) -> Process | None:
    try:
        data = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The command name, in brackets, may hold anything, brackets included.
    fields = data[data.rfind(b")") + 2 :].split()
    if len(fields) < 20:
        return None
    return Process(
        pid=pid,
        ppid=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        started=int(fields[19]),
        is_zombie=fields[0] in {b"Z", b"X"},
        name=data[data.find(b"(") + 1 : data.rfind(b")")].decode(errors="replace"),
    )


def _cookies_linux(pid: int) -> list[str]:
    data = b""
    try:
        for _ in range(3):
            if data := _read(f"/proc/{pid}/environ"):
                break
            os.sched_yield()  # empty also in the middle of an exec
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ESRCH, errno.EIO}:
            return []
        raise
    at = 0 if data.startswith(_COOKIE_BYTES) else data.find(b"\0" + _COOKIE_BYTES) + 1
    if at == 0 and not data.startswith(_COOKIE_BYTES):
        return []
    start = at + len(_COOKIE_BYTES)
    end = data.find(b"\0", start)
    return data[start : end if end >= 0 else None].decode(errors="replace").split()


# -- elsewhere ----------------------------------------------------------------------------------------------------
# psutil is imported here only: it costs 20 ms, and Linux does without.


def _pids_portable() -> list[int]:
    import psutil  # noqa: PLC0415

    return psutil.pids()


def _look_portable(pid: int) -> Process | None:
    import psutil  # noqa: PLC0415

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Process(
                pid=pid,
                ppid=process.ppid(),
                group=os.getpgid(pid),
                session=os.getsid(pid),
                started=round(process.create_time() * 100),
                is_zombie=process.status() == psutil.STATUS_ZOMBIE,
                name=process.name(),
            )
    except (psutil.Error, OSError):
        return None


def _cookies_portable(pid: int) -> list[str]:
    import psutil  # noqa: PLC0415

    try:
        return psutil.Process(pid).environ().get(COOKIE, "").split()
    except (psutil.Error, OSError):
        return []
