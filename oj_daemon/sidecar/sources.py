"""The session log that the agent writes: its new lines as they come, and copies of it from before it was compacted.

Rule: a line is read when it is whole, once, and in order. A line that cannot be read is one lost line, not a lost log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

logger = logging.getLogger(__name__)

READ_MOST: Final = 1024 * 1024
"""Bytes of the log in one go."""
LINE_MOST: Final = 16 * 1024 * 1024
"""A line that is longer is dropped."""


class _Place(NamedTuple):
    offset: int
    inode: int


class LogTail:
    """Follows one file at a time; remembers where it was in the others."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._offset = 0
        self._inode = 0
        self._partial = b""
        self._is_skipping = False
        self._left: dict[Path, _Place] = {}
        self.consumed = 0
        """Where the line that was read last ends in the present file."""

    def follow(self, path: Path) -> None:
        """Read this file from now on: from where it was left, else from its beginning."""
        if path == self.path:
            return
        if self.path is not None:
            self._left[self.path] = _Place(self.consumed, self._inode)
        place = self._left.get(path, _Place(0, 0))
        self.path, (self._offset, self._inode) = path, place
        self._partial = b""
        self._is_skipping = False
        self.consumed = place.offset

    def read(self) -> Iterator[str]:
        """The whole lines that are new; ends when there are no more."""
        while self.path is not None:
            data = self._more(self.path)
            if not data:
                return
            *lines, self._partial = (self._partial + data).split(b"\n")
            if len(self._partial) > LINE_MOST:
                logger.warning("a line of the session log has more than %d bytes", LINE_MOST)
                self.consumed += len(self._partial)
                self._partial, self._is_skipping = b"", True
            for line in lines:
                self.consumed += len(line) + 1
                if self._is_skipping:
                    self._is_skipping = False
                elif text := line.decode("utf-8", "replace").strip():
                    yield text

    def _more(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size < self._offset or (self._inode and status.st_ino != self._inode):
                    # The agent began anew in the same place: /clear, or a compaction.
                    self._offset, self._partial, self.consumed = 0, b"", 0
                    self._is_skipping = False
                self._inode = status.st_ino
                if status.st_size == self._offset:
                    return b""
                file.seek(self._offset)
                data = file.read(READ_MOST)
        except FileNotFoundError:
            return b""
        except OSError as error:
            logger.warning("read the session log: %s", error)
            return b""
        self._offset += len(data)
        return data


class Transcript(msgspec.Struct, frozen=True):
    """One kept copy of the session log."""

    number: int
    timestamp: str
    """Seconds since 1970."""
    line_count: int


class Transcripts:
    """The kept copies, numbered from 1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, number: int) -> Path:
        """Where a copy is."""
        return self._folder / f"{number}.jsonl"

    def save(self, log: Path) -> Transcript | None:
        """Copy the log as it is now; None when there is none."""
        number = max(self._numbers(), default=0) + 1
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._folder / f".{number}"
            shutil.copyfile(log, fresh)
            fresh.replace(self.path(number))
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("keep a copy of the session log: %s", error)
            return None
        return self._describe(number)

    def list(self) -> list[Transcript]:
        """All copies in order."""
        found = (self._describe(number) for number in self._numbers())
        return [one for one in found if one is not None]

    def _numbers(self) -> Sequence[int]:
        with contextlib.suppress(OSError):
            return sorted(
                int(path.stem) for path in self._folder.glob("*.jsonl") if path.stem.isdecimal()
            )
        return ()

    def read(self, number: int) -> str | None:
        """The text of a copy, None when there is no such copy."""
        try:
            return self.path(number).read_text("utf-8", "replace")
        except OSError:
            return None

    def _describe(self, number: int) -> Transcript | None:
        try:
            data = self.path(number).read_bytes()
            stamp = self.path(number).stat().st_mtime
        except OSError:
            return None
        return Transcript(number, str(int(stamp)), data.count(b"\n"))


def catch_up(
    transcripts: Transcripts, log: Path | None, since_transcript: int, since_line: int
) -> dict[str, object]:
    """Copies after one, and the lines of the present log after one that no copy holds."""
    kept = []
    seen: set[str] = set()
    every = transcripts.list()
    for one in every:
        lines = _lines(transcripts.read(one.number) or "")
        fresh = [line for line in lines if (key := _key(line)) is None or key not in seen]
        seen.update(key for line in lines if (key := _key(line)) is not None)
        if one.number > since_transcript:
            kept.append({"number": one.number, "timestamp": one.timestamp, "lines": fresh})
    live: list[str] = []
    if log is not None:
        with contextlib.suppress(OSError):
            live = _lines(log.read_text("utf-8", "replace"))
    return {
        "transcripts": kept,
        "live_lines": [
            line
            for line in live[max(since_line, 0) :]
            if (key := _key(line)) is None or key not in seen
        ],
        "current_transcript": every[-1].number if every else 0,
        "current_line": len(live),
    }


def _lines(text: str) -> list[str]:
    *whole, _ = text.split("\n")
    return [line for line in whole if line.strip()]


def _key(line: str) -> str | None:
    """What makes an entry the same entry in two places."""
    try:
        entry = msgspec.json.decode(line.encode(), type=_Entry)
    except msgspec.MsgspecError:
        return None
    return entry.uuid


class _Entry(msgspec.Struct, frozen=True):
    uuid: str | None = None


def epoch_ms() -> int:
    """The time of day for a frame's stamp; nothing is decided by it."""
    return int(time.time() * 1000)  # noqa: TID251 - a stamp for people
