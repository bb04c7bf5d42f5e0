"""What every file of the store does alike: whole writes, syncs, atomic replacement, errors that name the cause.

Rule: nothing in the store calls `os.write`, `fsync` or `rename` by itself, and no `OSError` leaves the store.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import shutil
from pathlib import Path
from typing import Final

from oj_daemon.errors import StoreError

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
DENIED: Final = frozenset({errno.EACCES, errno.EPERM})
KEPT_ASIDE: Final = 3


def write_all(fd: int, data: bytes) -> None:
    """Write every byte: one `os.write` may stop short at a full disk, a size limit or a signal."""
    written = os.write(fd, data)
    if written == len(data):
        return
    rest = memoryview(data)[written:]
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_file(fd: int) -> None:
    """Return when the file's bytes are on the disk itself, its cache included where the system offers that."""
    full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: plain fsync stops at the drive's cache
    if full is not None:
        fcntl.fcntl(fd, full)
    else:
        os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    """Make names created, renamed or removed in a folder survive a power loss."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes, *, durable: bool) -> None:
    """Give `path` new contents so that a reader or a crash sees the old ones or the new ones, nothing between."""
    scratch = path.with_name(path.name + ".tmp")
    try:
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_all(fd, data)
            if durable:
                sync_file(fd)
        finally:
            os.close(fd)
        scratch.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink()  # half a file must not keep a full disk full
        raise
    if durable:
        sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Create a private folder of the store if it is missing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise store_error(exc, "create the folder", folder) from exc


def copy_aside(path: Path, word: str, *, start: int = 0) -> Path:
    """Copy a file, from byte `start` on, to `<path>.<word>-<n>` and keep only the last few such copies."""
    numbers = aside_numbers(path, word)
    copy = path.with_name(f"{path.name}.{word}-{max(numbers, default=0) + 1}")
    with path.open("rb") as source, copy.open("xb") as target:
        source.seek(start)
        shutil.copyfileobj(source, target)
    copy.chmod(0o600)
    for number in sorted(numbers)[: 1 - KEPT_ASIDE]:
        path.with_name(f"{path.name}.{word}-{number}").unlink(missing_ok=True)
    return copy


def aside_numbers(path: Path, word: str) -> list[int]:
    """The numbers of the copies that `copy_aside` made of a file so far."""
    endings = (other.name.removeprefix(f"{path.name}.{word}-") for other in path.parent.iterdir())
    return [int(ending) for ending in endings if ending.isdigit()]


def owner_name(uid: int) -> str:
    """The user's name, or the bare number for one without an entry (containers)."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def store_error(exc: OSError, doing: str, path: Path) -> StoreError:
    """Say which file, what was attempted, why it failed and what to do, for an error of the file system."""
    attempt = f"cannot {doing} {path}"
    if exc.errno in FULL:
        return StoreError(
            f"{attempt}: no space left ({exc.strerror})",
            code="full",
            hint="free some space on that disk, then: oj daemon start",
        )
    if exc.errno == errno.EROFS:
        return StoreError(
            f"{attempt}: the file system is read-only",
            code="readonly",
            hint="make it writable, or set OJ_STATE_DIR to a folder on another disk",
        )
    if exc.errno in DENIED:
        me = owner_name(os.geteuid())
        return StoreError(
            f"{attempt}: permission denied ({_owner_and_mode(path)}; this is {me})",
            code="denied",
            hint=f"give it to {me} (chown, chmod u+rwX), or set OJ_STATE_DIR to a folder of your own",
        )
    return StoreError(f"{attempt}: {exc.strerror or exc}", code="io", hint="see: oj daemon logs")


def _owner_and_mode(path: Path) -> str:
    for place in (path, *path.parents):
        try:
            found = place.stat()
        except OSError:
            continue
        which = "" if place == path else f"{place} is "
        return f"{which}owned by {owner_name(found.st_uid)}, mode {found.st_mode & 0o7777:04o}"
    return "owner unknown"
