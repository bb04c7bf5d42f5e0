"""Job logs: text that people read, appended as it comes and never rewritten.

Rule: every line of a step's output appears once, whatever is killed when. Before output is appended, the cursor file
says what is about to be appended and how far the step's raw output will then be copied; a start compares that with the
log's size and knows whether it happened. Text is stored as it came, made valid UTF-8 and without tokens of steps; a screen
makes it harmless.

A log line is `2026-11-24T06:37:08Z [step] text`. Beside `<job>.log` lies `<job>.cursor`, which is our book-keeping.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

import msgspec

from oj_daemon.settings import STEP_TOKEN, STEP_TOKEN_PATTERN
from oj_daemon.store.files import make_folder, replace_file, store_error, write_all

LONGEST_LINE: Final = 64 * 1024
PUMP_BYTES: Final = 256 * 1024
PUNCH_BYTES: Final = 4 << 20
READ_BYTES: Final = 4 << 20
"""The most that one `read_log` returns."""

_BLOCK: Final = 64 * 1024
_KEEP_SIZE_PUNCH_HOLE: Final = 0x01 | 0x02
_TOKEN: Final = re.compile(STEP_TOKEN_PATTERN.encode())
_START: Final = STEP_TOKEN.encode()
_MASK: Final = _START + b"***"


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far the raw output of one run has been copied."""

    offset: int = 0
    """Bytes of the raw file that were copied."""
    is_capped: bool = False
    """The limit was reached and the log says so; the rest is dropped."""


class Cursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the log has taken from the raw output of all runs of a job."""

    runs: dict[str, Position] = {}
    size: int = 0
    """Bytes of the log before the last append."""
    run: str = ""
    """The run whose output the last append carries, "" if none."""
    before: Position = Position()
    """Where that run stood before it; `runs` says where it stands once the append has happened."""
    added: int = 0
    """Bytes of that append."""


class LogBook:
    """All job logs of one daemon. Calls for one job are serialised; each is short."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder = folder
        self._jobs: dict[str, _JobLog] = {}
        self._lock = threading.Lock()

    def path(self, job_id: str) -> Path:
        """Where a job's log is, or will be."""
        return self.folder / f"{job_id}.log"

    def line(self, job_id: str, step: str, text: str, at: int) -> None:
        """Append one line about a step (several, if the text has several)."""
        self.lines(job_id, [(step, text)], at)

    def lines(self, job_id: str, texts: Iterable[tuple[str, str]], at: int) -> None:
        """The same for several steps and texts, in one write."""
        block = b"".join(
            _stamped(text.encode("utf-8", "replace").splitlines() or [b""], step, at)
            for step, text in texts
        )
        log = self._job(job_id)
        with log.lock:
            log.append(block)

    def copier(self, job_id: str, run: str, step: str, raw: Path, *, limit: int) -> OutputCopier:
        """A copier of one run's raw output, which goes on where an earlier one for this run stopped."""
        return OutputCopier(self._job(job_id), run, step, raw, limit)

    def forget(self, job_id: str, run: str) -> None:
        """Forget how far a run was copied, once nobody will ever copy it again: its end is durable."""
        with self._lock:
            log = self._jobs.get(job_id)
        if log is not None:
            with log.lock:
                log.runs.pop(run, None)

    def close(self, job_id: str) -> None:
        """Forget a job whose runs are over: only its log stays, which may be written again."""
        with self._lock:
            self._jobs.pop(job_id, None)
        with contextlib.suppress(OSError):
            self._cursor_path(job_id).unlink()

    def remove(self, job_id: str) -> None:
        """Delete a job's log and cursor."""
        self.close(job_id)
        path = self.path(job_id)
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            raise store_error(exc, "remove", path) from exc

    def _cursor_path(self, job_id: str) -> Path:
        return self.folder / f"{job_id}.cursor"

    def _job(self, job_id: str) -> _JobLog:
        with self._lock:
            log = self._jobs.get(job_id)
            if log is None:
                log = self._jobs[job_id] = _JobLog(self.path(job_id), self._cursor_path(job_id))
            return log


class _JobLog:
    """One log and its cursor; whoever calls holds `lock`."""

    def __init__(self, path: Path, cursor_path: Path) -> None:
        self.path, self.cursor_path = path, cursor_path
        self.lock = threading.Lock()
        self._is_open = False
        """An append was announced and failed: what comes next must not be taken for it."""
        try:
            self.runs = self._restore()
        except OSError as exc:
            raise store_error(exc, "repair the log", path) from exc

    def _restore(self) -> dict[str, Position]:
        """Undo an append that was cut short, and settle whether the one announced last happened."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            size = 0
        try:
            cursor = msgspec.json.decode(self.cursor_path.read_bytes(), type=Cursor)
        except (FileNotFoundError, msgspec.MsgspecError):
            cursor = Cursor()
        runs = dict(cursor.runs)
        whole = cursor.size + cursor.added
        if cursor.run and cursor.size <= size < whole:
            runs[cursor.run] = cursor.before
            end = cursor.size
        else:
            end = _end_of_last_line(self.path, size)
        if end < size:
            os.truncate(self.path, end)
        if (
            cursor.run
        ):  # settled: a log that grows from here on must not be judged by that announcement again
            self._write_cursor(Cursor(runs=runs))
        return runs

    def append(self, block: bytes) -> None:
        """Append whole lines, all or nothing."""
        if self._is_open:
            self._write_cursor(Cursor(self.runs))
        self._append(block)

    def append_output(self, block: bytes, run: str, position: Position) -> None:
        """Append output of a run, which thereby gets to `position`."""
        size = self.path.stat().st_size if self.path.exists() else 0
        runs = {**self.runs, run: position}
        self._write_cursor(Cursor(runs, size, run, self.runs.get(run, Position()), len(block)))
        self._is_open = True
        self._append(block)
        self._is_open = False
        self.runs = runs

    def _append(self, block: bytes) -> None:
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                size = os.fstat(fd).st_size
                try:
                    write_all(fd, block)
                except OSError:
                    os.ftruncate(
                        fd, size
                    )  # a full disk: leave no torn line, so that the same can be tried again
                    raise
            finally:
                os.close(fd)
        except OSError as exc:
            raise store_error(exc, "append to the log", self.path) from exc

    def _write_cursor(self, cursor: Cursor) -> None:
        try:
            replace_file(self.cursor_path, msgspec.json.encode(cursor), durable=False)
        except OSError as exc:
            raise store_error(exc, "write", self.cursor_path) from exc
        self._is_open = False


class OutputCopier:
    """Copies what one run of a step writes to its raw file into the job's log, line by line."""

    def __init__(self, log: _JobLog, run: str, step: str, raw: Path, limit: int) -> None:
        self._log, self._run, self._step, self._raw, self._limit = log, run, step, raw, limit
        self._punched = 0

    def pump(self, at: int) -> int:
        """Copy a bounded amount of new output; returns the bytes dealt with, 0 when there is nothing (complete) left.

        The last line stays until it is complete or `finish` is called.
        """
        return self._pump(at, is_final=False)

    def finish(self, at: int) -> None:
        """Copy all that is left, the unfinished last line included. The run must have ended."""
        while self.finish_piece(at):
            pass

    def finish_piece(self, at: int) -> int:
        """One bounded piece of that, for those who cannot be away for long; 0 when nothing is left."""
        return self._pump(at, is_final=True)

    def _pump(self, at: int, *, is_final: bool) -> int:
        with self._log.lock:
            position = self._log.runs.get(self._run, Position())
            try:
                fd = os.open(self._raw, os.O_RDWR)
            except FileNotFoundError:
                return 0  # the step has not written yet
            except OSError as exc:
                raise store_error(exc, "read the output", self._raw) from exc
            try:
                return self._copy(fd, position, at, is_final=is_final)
            finally:
                os.close(fd)

    def _copy(self, fd: int, position: Position, at: int, *, is_final: bool) -> int:
        if position.is_capped:  # no need to remember: whatever is there is dropped
            size = os.fstat(fd).st_size
            self._punch(fd, size)
            return 0
        data = os.pread(fd, PUMP_BYTES, position.offset)
        lines, used = _complete_lines(data, is_final=is_final and len(data) < PUMP_BYTES)
        if not used:
            return 0
        room = self._limit - position.offset
        is_capped = used > room
        if is_capped:
            lines = _first_bytes(lines, room)
        block = masked(_stamped(lines, self._step, at))
        if is_capped:
            note = f"output limit of {self._limit} bytes reached; the rest is not kept"
            block += _stamped([note.encode()], self._step, at)
        reached = Position(position.offset + used, is_capped)
        self._log.append_output(block, self._run, reached)
        self._punch(fd, reached.offset)
        return used

    def _punch(self, fd: int, end: int) -> None:
        """Give the disk back what was copied, a step behind: the file keeps its size, so offsets stay true."""
        end = (end // PUNCH_BYTES - 1) * PUNCH_BYTES
        if end > self._punched:
            _punch_hole(fd, self._punched, end - self._punched)
            self._punched = end


def masked(text: bytes) -> bytes:
    """What a command printed, without its token: whoever may read a log is not to act as the step."""
    return _TOKEN.sub(_MASK, text) if _START in text else text


class LogSlice(msgspec.Struct, frozen=True):
    """A piece of a log."""

    content: str
    offset: int
    """Where the next read goes on."""
    was_restarted: bool = False
    """The offset asked for lies beyond the file, which was cut or replaced: this is read from its beginning."""
    has_more: bool = False
    """The piece was limited; more is there already."""


def read_log(path: Path, *, lines: int | None = None, offset: int | None = None) -> LogSlice:
    """Read a log: its last `lines` lines, or from byte `offset` on, or (neither) from its beginning.

    A missing file reads as empty. A character that is only half written is left for the next read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start, was_restarted = offset or 0, False
            if start > size:
                start, was_restarted = 0, True
            if offset is None and lines:
                start = _start_of_tail(file.fileno(), size, lines)
            data = os.pread(file.fileno(), READ_BYTES, start)
    except FileNotFoundError:
        return LogSlice("", 0, was_restarted=bool(offset))
    except OSError as exc:
        raise store_error(exc, "read the log", path) from exc
    data = data[: len(data) - _half_character(data)]
    end = start + len(data)
    return LogSlice(
        data.decode("utf-8", "replace"), end, was_restarted, has_more=len(data) > 0 and end < size
    )


def _stamped(lines: list[bytes], step: str, at: int) -> bytes:
    if not lines:
        return b""
    prefix = f"{_when(at // 1000)} [{step}] ".encode("utf-8", "replace")
    block = prefix + (b"\n" + prefix).join(lines) + b"\n"
    try:
        block.decode()
    except UnicodeDecodeError:
        block = block.decode("utf-8", "replace").encode()
    return block


@lru_cache(maxsize=8)
def _when(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _complete_lines(data: bytes, *, is_final: bool) -> tuple[list[bytes], int]:
    """Split off the complete lines, cutting overlong ones; returns them and the bytes they take up."""
    lines = data.split(b"\n")
    rest = lines.pop()
    used = len(data) - len(rest)
    while len(rest) > LONGEST_LINE or (is_final and rest):
        piece = _first_piece(rest)
        lines.append(piece)
        rest = rest[len(piece) :]
        used += len(piece)
    if any(len(line) > LONGEST_LINE for line in lines):
        lines = [piece for line in lines for piece in _pieces(line)]
    return lines, used


def _pieces(line: bytes) -> list[bytes]:
    pieces = []
    while len(line) > LONGEST_LINE:
        pieces.append(_first_piece(line))
        line = line[len(pieces[-1]) :]
    return [*pieces, line]


def _first_piece(line: bytes) -> bytes:
    piece = line[:LONGEST_LINE]
    return piece[: len(piece) - _half_character(piece)] if len(line) > len(piece) else piece


def _first_bytes(lines: list[bytes], room: int) -> list[bytes]:
    """As many of the lines as fit."""
    kept = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept


def _half_character(data: bytes) -> int:
    """How many bytes at the end begin a UTF-8 character that is not complete."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < wanted and byte < 0xF8 else 0
        if byte < 0x80:
            return 0
    return 0


def _start_of_tail(fd: int, size: int, lines: int) -> int:
    """Where the last `lines` lines begin, read backwards in blocks."""
    wanted = lines + 1  # the line end before the first of them
    if size and os.pread(fd, 1, size - 1) != b"\n":
        wanted = lines
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        block = os.pread(fd, end - start, start)
        count = block.count(b"\n")
        if count >= wanted:
            at = len(block)
            for _ in range(wanted):
                at = block.rindex(b"\n", 0, at)
            return start + at + 1
        wanted -= count
        end = start
    return 0


def _end_of_last_line(path: Path, size: int) -> int:
    if not size:
        return 0
    with path.open("rb") as file:
        fd = file.fileno()
        if os.pread(fd, 1, size - 1) == b"\n":
            return size
        return _start_of_tail(fd, size, 1)


def _punch_hole(fd: int, offset: int, length: int) -> None:
    """Free a range of a file where the file system can; where not, the file just stays larger on disk."""
    if sys.platform != "linux":
        return
    libc = _libc()
    fallocate = libc.fallocate64 if hasattr(libc, "fallocate64") else libc.fallocate
    fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, ctypes.c_longlong(offset), ctypes.c_longlong(length))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
