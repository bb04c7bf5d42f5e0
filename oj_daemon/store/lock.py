"""Who may use the state folder: its owner, and of the owner's daemons one.

Rule: take the lock before anything in the folder is touched. The kernel ends a lock with its process, so nothing left
behind by a killed daemon ever blocks a start; and a process is named by pid, start time and boot, never by pid alone,
because pids are used again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from oj_daemon.errors import StoreError
from oj_daemon.store.files import (
    make_folder,
    owner_name,
    replace_file,
    store_error,
    sync_file,
    write_all,
)

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_NAME: Final = "daemon.lock"
PID_NAME: Final = "daemon.pid"

_PROC: Final = Path("/proc")
_OTHER_FOLDER: Final = "set OJ_STATE_DIR to a folder of your own"
_PROBE_BYTES: Final = 4096


class DaemonRecord(msgspec.Struct, frozen=True):
    """Content of `daemon.pid`: which process the daemon is, and what it speaks."""

    pid: int
    start_time: str
    """As the kernel tells it: never changes in the life of a process, and differs for the next one with this pid."""
    boot_id: str
    version: str = ""
    protocol: int = 0
    epoch: int = 0
    started_at: int = 0


def prepare_state_dir(path: Path, *, trust_owner: bool = False) -> None:
    """Create the state folder for its owner alone, or say why it cannot be used.

    `trust_owner` (in a pod) accepts a writable folder of anybody: volumes are owned by root and shared by group. A
    folder of root's that others cannot write is accepted everywhere, as an administrator's gift.
    """
    make_folder(path)
    try:
        _check_owner(path, path.stat(), trust_owner=trust_owner)
        _probe(path)
    except OSError as exc:
        raise store_error(exc, "use the state folder", path) from exc


def _check_owner(path: Path, found: os.stat_result, *, trust_owner: bool) -> None:
    me, mode = os.geteuid(), stat.S_IMODE(found.st_mode)
    if found.st_uid == me:
        if mode & 0o300 != 0o300:  # asked explicitly, since root may write anywhere
            raise StoreError(
                f"cannot use the state folder {path}: it is read-only (mode {mode:04o})",
                code="readonly",
                hint=f"chmod u+rwx {path}",
            )
        if mode & 0o777 != 0o700:
            path.chmod(0o700)
        return
    if trust_owner or (found.st_uid == 0 and not mode & 0o002):
        return
    owner = owner_name(found.st_uid)
    raise StoreError(
        f"cannot use the state folder {path}: it belongs to {owner}, and this is {owner_name(me)}",
        code="denied",
        hint=f"run oj as {owner}, or {_OTHER_FOLDER}",
    )


def _probe(path: Path) -> None:
    """Find a full, read-only or forbidden folder now, when it can still be said in one sentence."""
    probe = path / f".probe-{os.getpid()}"
    fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_all(fd, bytes(_PROBE_BYTES))
        sync_file(fd)
    finally:
        os.close(fd)
        probe.unlink(missing_ok=True)


def acquire(state_dir: Path) -> BaseFileLock:
    """Become the only daemon of a state folder, until `release` or the end of the process."""
    import filelock  # noqa: PLC0415 - a pod never needs it

    lock = filelock.FileLock(state_dir / LOCK_NAME, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as exc:
        raise StoreError(
            f"a daemon is already running{_describe(read_pid(state_dir))}",
            code="conflict",
            hint="oj daemon status",
        ) from exc
    except OSError as exc:
        raise store_error(exc, "lock", state_dir / LOCK_NAME) from exc
    return lock


def _describe(record: DaemonRecord | None) -> str:
    return (
        ""
        if record is None
        else f" (pid {record.pid}, version {record.version}, protocol {record.protocol})"
    )


def write_pid(state_dir: Path, record: DaemonRecord) -> None:
    """Say which process the daemon is; only whoever holds the lock does so."""
    path = state_dir / PID_NAME
    try:
        replace_file(path, msgspec.json.encode(record) + b"\n", durable=False)
    except OSError as exc:
        raise store_error(exc, "write", path) from exc


def read_pid(state_dir: Path) -> DaemonRecord | None:
    """The daemon's record, whether or not it still runs; None if there is none or it makes no sense."""
    try:
        return msgspec.json.decode((state_dir / PID_NAME).read_bytes(), type=DaemonRecord)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def remove_pid(state_dir: Path, record: DaemonRecord) -> None:
    """Remove our record, and never that of a successor."""
    if read_pid(state_dir) == record:
        with contextlib.suppress(OSError):
            (state_dir / PID_NAME).unlink()


def is_alive(record: DaemonRecord) -> bool:
    """Whether the very process of the record runs: not another with its pid, nor a dead one nobody has collected."""
    known_boot = boot_id()
    if record.boot_id and known_boot and record.boot_id != known_boot:
        return False
    return bool(record.start_time) and start_time(record.pid) == record.start_time


def start_time(pid: int) -> str:
    """When the kernel started a process; empty if there is no such process or it is only waiting to be collected."""
    if (_PROC / "self" / "stat").exists():
        try:
            fields = (
                (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
            )
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    import psutil  # noqa: PLC0415 - 20 ms, where there is no /proc

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.Error:
        return ""


def boot_id() -> str:
    """Which boot of the machine this is; empty where the system does not say."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
