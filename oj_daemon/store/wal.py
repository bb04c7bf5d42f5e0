"""The write-ahead log: one record per engine turn, made durable in groups.

Rule: a record counts once it is on disk and, looked at after that, no newer epoch exists; only then is it announced.
A failed write or sync is final: nothing later is announced and nothing is tried again. Life of a `Wal`: `open` creates
this epoch's first segment, which fences every older process; `replay` yields the records and writes the header;
`start` accepts new ones; `close` leaves everything on disk. The format is in `segment.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import msgspec

from oj_daemon.errors import StoreError
from oj_daemon.store.files import make_folder, store_error, sync_file, sync_folder, write_all
from oj_daemon.store.segment import (
    FORMAT,
    Head,
    Replay,
    Segment,
    epoch_of,
    line,
    read_segments,
    report_strays,
    segment_names,
    segment_path,
)

logger = logging.getLogger(__name__)

INLINE_SECONDS: Final = 0.001
"""While a sync takes less than this, it is done in the caller's thread: that is cheaper than waking another."""
INLINE_RECORDS: Final = 16


class Wal:
    """The log of one daemon process: `append`, `commit` and `rotate` belong to one thread, the rest to any."""

    def __init__(self, folder: Path, epoch: int, fd: int) -> None:
        self.folder, self.epoch = folder, epoch
        self.warnings: list[str] = []
        """What a start had to leave out; complete after `replay`."""
        self._fd, self._index = fd, 1
        self._name = segment_path(folder, epoch, 1).name
        self._found: list[Segment] = []
        self._ends: dict[Path, int] = {}
        self._reads: dict[str, int] = {}
        self._seq = self._durable = 0
        self._ready = False
        self._pending: deque[bytes] = deque()
        self._io = threading.Lock()
        self._rotation_wanted = False
        self._sync_seconds = INLINE_SECONDS
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._kicked = False
        self._error: StoreError | None = None
        self._sizes: dict[str, int] = {}
        self.on_commit: Callable[[float, int], None] = _no_commit
        """Called with seconds and bytes of each batch that got onto the disk, from whichever thread wrote it; must not raise."""
        self._on_durable: Callable[[int], None] = _ignore
        self._on_error: Callable[[StoreError], None] = _ignore
        self._thread: threading.Thread | None = None

    @classmethod
    def open(cls, folder: Path, *, epoch: int = 1) -> Wal:
        """Begin a new epoch, `epoch` or higher: from here on no older process gets a record acknowledged."""
        make_folder(folder)
        path = folder
        try:
            names = segment_names(folder)
            epoch = max([epoch, *(epoch_of(name) + 1 for name in names)])
            path = segment_path(folder, epoch, 1)
            fd = _create(path)
        except FileExistsError as exc:
            raise StoreError(
                f"another daemon is starting on the same state folder ({path} exists)",
                code="conflict",
                hint="oj daemon status",
            ) from exc
        except OSError as exc:
            raise store_error(exc, "open the log", path) from exc
        wal = cls(folder, epoch, fd)
        try:
            wal._found = read_segments(
                folder, [name for name in segment_names(folder) if name != path.name]
            )
        except BaseException:
            wal.close()
            raise
        return wal

    @property
    def seq(self) -> int:
        """Number of the last record appended."""
        return self._seq

    @property
    def durable(self) -> int:
        """Number of the last record known to be on disk."""
        return self._durable

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        sizes = tuple(self._sizes.values())  # a copy, made at once: other threads add and remove
        return sum(sizes)

    @property
    def fences(self) -> dict[int, int]:
        """For each epoch found, the last record before it: an older epoch's snapshot beyond that is not ours."""
        found: dict[int, int] = {}
        for segment in self._found:
            if segment.head is not None:
                found.setdefault(segment.epoch, segment.head.after_seq)
        return found

    def replay(self, *, after_seq: int = 0, recover: bool = False) -> Iterator[tuple[int, bytes]]:
        """Yield number and payload of every record after `after_seq`; must be exhausted before `start`.

        Damage raises StoreError; with `recover` the log ends there instead, and `warnings` says what was dropped.
        """
        replay = Replay(self.folder, self._found, after_seq=after_seq, recover=recover)
        try:
            yield from replay.records()
        except OSError as exc:
            raise store_error(exc, "read the log in", self.folder) from exc
        self.warnings += replay.warnings
        self._seq = self._durable = replay.seq
        self._reads = {segment.name: segment.cut or 0 for segment in self._found}
        self._sizes.update({segment.name: segment.size for segment in self._found})
        self._ends = {segment.path: replay.ends.get(segment.path, 0) for segment in self._found}
        try:
            self._sync_seconds = self._write_head()
            sync_folder(self.folder)
        except OSError as exc:
            raise store_error(exc, "begin a log segment in", self.folder) from exc
        self.check_fence()
        self._ready = True
        with contextlib.suppress(OSError):
            for segment in self._found:
                if not segment.size:  # its start died before the header: holds and decides nothing
                    segment.path.unlink(missing_ok=True)

    def start(
        self, on_durable: Callable[[int], None], on_error: Callable[[StoreError], None]
    ) -> None:
        """Accept records. The callbacks come from the writer thread, or from `commit` or `close`.

        They must not raise. `on_durable` is not called for what `commit` itself reported.
        """
        if not self._ready:
            raise StoreError(
                "the log must be replayed to its end before it is written", code="order"
            )
        self._on_durable, self._on_error = on_durable, on_error
        self._thread = threading.Thread(target=self._write_loop, name="wal", daemon=True)
        self._thread.start()

    def append(self, payload: bytes) -> int:
        """Queue one record (JSON without a line end) and return its number; `commit` makes it durable."""
        if self._error is not None:
            raise self._error
        if b"\n" in payload:
            raise ValueError("a record is one line")  # it would read as damage for ever after
        self._seq += 1
        self._pending.append(line(b"%d" % self._seq, payload))
        return self._seq

    def commit(self) -> bool:
        """Make all that was appended durable: True when it is so now, False when `on_durable` will tell.

        A short queue on a fast disk is written here and now, all else by the writer thread.
        """
        if self._durable == self._seq:
            return True
        is_short = len(self._pending) <= INLINE_RECORDS and not self._rotation_wanted
        if is_short and self._sync_seconds < INLINE_SECONDS and self._io.acquire(blocking=False):
            try:
                self._write_out()
            finally:
                self._io.release()
            return self._durable == self._seq
        if not self._kicked:
            self._kicked = True
            self._wake.put(True)
        return False

    def rotate(self) -> None:
        """Let the next commit begin a new segment, so that a snapshot taken now can outdate all earlier ones."""
        self._rotation_wanted = True

    def drop_before(self, seq: int) -> None:
        """Remove the closed segments whose records are all numbered `seq` or lower. Blocks: not for the event loop."""
        self.check_fence()
        with self._io:
            gone = [path for path, last in self._ends.items() if last <= seq]
        if not gone:
            return
        try:
            for path in gone:
                path.unlink(missing_ok=True)
            sync_folder(self.folder)
        except OSError as exc:
            raise store_error(exc, "remove old log segments in", self.folder) from exc
        with self._io:  # only now: a header must list every older segment that may still exist
            for path in gone:
                del self._ends[path]
                self._reads.pop(path.name, None)
                self._sizes.pop(path.name, None)

    def check_fence(self) -> None:
        """Raise StoreError when a newer daemon has taken this log over, or its files were removed."""
        mine = self._name  # before looking: it may rotate
        try:
            names = segment_names(self.folder)
        except OSError as exc:
            raise store_error(exc, "read the log folder", self.folder) from exc
        if names and epoch_of(names[-1]) > self.epoch:
            what = f"{names[-1]} belongs to a newer daemon"
        elif mine not in names:
            what = "its file was removed"
        else:
            return
        raise StoreError(
            f"this daemon (epoch {self.epoch}) no longer owns the log in {self.folder}: {what}",
            code="replaced",
            hint="oj daemon status",
        )

    def new_strays(self) -> list[str]:
        """What to tell of records that a replaced daemon wrote since `replay`, or since this was asked last. Blocks."""
        told: list[str] = []
        for segment in self._found:
            try:
                size = segment.path.stat().st_size
                if size > segment.size:
                    segment.size = size
                    told += report_strays(segment)
            except OSError:
                continue  # dropped: a snapshot has what counted of it
        return told

    def close(self) -> None:
        """Write out what is queued, stop the thread, close the file; a log that was never begun leaves none."""
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            self._wake.put(False)
            thread.join()
        with self._io:
            if self._fd < 0:
                return
            before = self._durable
            self._write_out()
            os.close(self._fd)
            self._fd = -1
        if self._durable > before:
            self._on_durable(self._durable)
        path = segment_path(self.folder, self.epoch, 1)
        with contextlib.suppress(OSError):
            if not self._ready and path.stat().st_size == 0:
                path.unlink()

    def _write_loop(self) -> None:
        while self._wake.get():
            self._kicked = False
            before = self._durable
            with self._io:
                self._write_out()
            if self._durable > before:
                self._on_durable(self._durable)

    def _write_out(self) -> None:
        """Write and sync what is queued, under `_io`; after a failure what is on disk is unknown, so it is final."""
        count = len(self._pending)  # more may be appended meanwhile: the next batch
        if not count or self._error is not None:
            return
        try:
            if self._rotation_wanted:
                self._begin_segment()
            began = time.perf_counter()
            data = b"".join([self._pending.popleft() for _ in range(count)])
            write_all(self._fd, data)
            took = min(self._timed_sync(), 4 * INLINE_SECONDS)  # one stall is soon forgotten
            self._sync_seconds += (took - self._sync_seconds) / 4
            # After the sync, not before it: a newer daemon creates its segment first and reads ours second, so as
            # long as none is to be seen here, whoever comes later reads these records.
            self.check_fence()
        except OSError as exc:
            self._fail(store_error(exc, "write to the log in", self.folder))
        except StoreError as exc:
            self._fail(exc)
        except Exception as exc:
            # Else all would wait for a thread that has ended, and nobody would know.
            logger.exception("writing the log crashed")
            self._fail(StoreError(f"write to the log in {self.folder}: {exc!r}", code="internal"))
        else:
            self._durable += count
            self._sizes[self._name] += len(data)
            self.on_commit(time.perf_counter() - began, len(data))

    def _fail(self, error: StoreError) -> None:
        self._error = error
        self._pending.clear()
        logger.error("%s", error)
        self._on_error(error)

    def _begin_segment(self) -> None:
        self._rotation_wanted = False
        old, path = self._fd, self.folder / self._name
        new = segment_path(self.folder, self.epoch, self._index + 1)
        self._fd = _create(new)
        self._index += 1
        self._name = new.name  # after the file is there: another thread may be looking for it
        os.close(old)
        self._ends[path] = self._durable
        self._write_head()
        sync_folder(self.folder)

    def _write_head(self) -> float:
        head = Head(format=FORMAT, epoch=self.epoch, after_seq=self._durable, reads=self._reads)
        data = line(b"head", msgspec.json.encode(head))
        write_all(self._fd, data)
        self._sizes[self._name] = len(data)
        return self._timed_sync()

    def _timed_sync(self) -> float:
        began = time.perf_counter()
        sync_file(self._fd)
        return time.perf_counter() - began


def _ignore(_: object) -> None:
    """Stand in for the callbacks before `start`."""


def _no_commit(_seconds: float, _size: int) -> None:
    """Stand in where nobody counts."""


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
