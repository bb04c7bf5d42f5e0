"""Snapshots: the whole state in one compressed file, so that a start need not replay all of history.

Rule: a snapshot is whole under its final name or it does not exist, and the last two are kept, so that a damaged one
costs a longer replay and nothing else: the log keeps what the older one needs. A newer version is never fallen back
from, because that would silently undo what the newer program did.

A file `<seq>-<epoch>.zst` holds, compressed, one line of JSON about the rest and the rest, which is the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from oj_daemon.errors import StoreError
from oj_daemon.store.files import make_folder, replace_file, store_error, sync_folder
from oj_daemon.store.migrate import VERSION, check_version

KEPT: Final = 2
CORRUPT_KEPT: Final = 3

_NAME: Final = re.compile(r"(\d{12})-(\d+)\.zst")


class SnapshotHead(msgspec.Struct, frozen=True):
    """First line of a snapshot."""

    version: int
    seq: int
    epoch: int
    crc: int
    """CRC-32 of the body."""


class _Version(msgspec.Struct, frozen=True):
    version: int


class Loaded(msgspec.Struct, frozen=True):
    """What a start found; without a body there was no snapshot and the log is all there is."""

    seq: int = 0
    epoch: int = 0
    version: int = VERSION
    body: bytes | None = None
    at: int = 0
    """When it was written, epoch milliseconds."""
    warnings: tuple[str, ...] = ()


class _Damaged(Exception):
    """What is wrong with one file; never leaves this module."""


def write(
    folder: Path,
    body: bytes,
    *,
    seq: int,
    epoch: int,
    fence: Callable[[], None] | None = None,
) -> int:
    """Store a snapshot of all up to record `seq`; returns the number up to which the log may now be dropped.

    Record `seq` must be durable: a state that the log does not know of must not outlive a crash.
    `fence` (`Wal.check_fence`) keeps a replaced daemon from pushing out the snapshots of its successor. Blocks.
    """
    import zstandard  # noqa: PLC0415 - 5 MB, for whoever writes or reads a snapshot

    make_folder(folder)
    head = SnapshotHead(version=VERSION, seq=seq, epoch=epoch, crc=crc32(body))
    content = zstandard.ZstdCompressor(level=1).compress(msgspec.json.encode(head) + b"\n" + body)
    if fence is not None:
        fence()
    path = folder / f"{seq:012d}-{epoch}.zst"
    try:
        replace_file(path, content, durable=True)
        return _prune(folder)
    except OSError as exc:
        raise store_error(exc, "write the snapshot", path) from exc


def load(folder: Path, *, fences: Mapping[int, int] | None = None, recover: bool = False) -> Loaded:
    """Read the newest sound snapshot; a damaged one is put aside with a warning if an older one is sound.

    `fences` (`Wal.fences`) rules out what a replaced daemon wrote. If all are damaged, StoreError; with `recover` the
    start goes on from the log alone, which refuses in turn if it no longer reaches back to the beginning.
    """
    make_folder(folder)
    bad: list[tuple[Path, str]] = []
    for path in reversed(_ours(folder, fences or {})):
        try:
            head, body = _read(path)
            at = path.stat().st_mtime_ns // 1_000_000
        except _Damaged as exc:
            bad.append((path, str(exc)))
            continue
        except OSError as exc:
            raise store_error(exc, "read the snapshot", path) from exc
        return Loaded(
            head.seq,
            head.epoch,
            head.version,
            body,
            at,
            _put_aside(bad, f"used {path.name}, the one before"),
        )
    if not bad:
        return Loaded()
    if not recover:
        listing = ", ".join(f"{path}: {problem}" for path, problem in bad)
        raise StoreError(
            f"no snapshot can be read: {listing}",
            code="corrupt",
            hint="restore the file from a backup, or: oj daemon start --recover   (uses the log alone if it is complete)",
        )
    return Loaded(warnings=_put_aside(bad, "started from the log alone"))


def _ours(folder: Path, fences: Mapping[int, int]) -> list[Path]:
    """Snapshots in the order of the log, without those that a daemon wrote after it was replaced."""
    found = []
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is not None:
            seq, epoch = int(match[1]), int(match[2])
            if all(seq <= base for fence, base in fences.items() if fence > epoch):
                found.append((epoch, seq, path))
    return [path for _, _, path in sorted(found)]


def _read(path: Path) -> tuple[SnapshotHead, bytes]:
    import zstandard  # noqa: PLC0415 - see write

    packed = path.read_bytes()
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    try:
        content = decompressor.decompress(packed)
    except (zstandard.ZstdError, MemoryError) as exc:
        raise _Damaged(f"not readable ({exc})") from exc
    if not decompressor.eof:
        raise _Damaged("cut short" if packed else "empty")
    first, _, body = content.partition(b"\n")
    try:
        check_version(msgspec.json.decode(first, type=_Version).version, where=str(path))
        head = msgspec.json.decode(first, type=SnapshotHead)
    except msgspec.MsgspecError as exc:
        raise _Damaged(f"no header ({exc})") from exc
    if crc32(body) != head.crc:
        raise _Damaged("checksum does not match")
    return head, body


def _put_aside(bad: list[tuple[Path, str]], instead: str) -> tuple[str, ...]:
    for path, _ in bad:
        path.replace(path.with_name(f"{path.name}.corrupt"))
    return tuple(
        f"snapshot {path} is damaged: {problem}; {instead}; kept as .corrupt"
        for path, problem in bad
    )


def _prune(folder: Path) -> int:
    kept = _ours(folder, {})
    for path in [
        *kept[:-KEPT],
        *folder.glob("*.tmp"),
        *sorted(folder.glob("*.corrupt"))[:-CORRUPT_KEPT],
    ]:
        path.unlink(missing_ok=True)
    sync_folder(folder)
    return int(kept[-KEPT].name[:12]) if len(kept) >= KEPT else 0
