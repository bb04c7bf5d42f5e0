"""Segments of the write-ahead log: their format, and which bytes of them are the log.

Rule: a segment belongs to the process that created it and to nobody else; its bytes are never changed. What a start
rejects (a torn tail, records of a replaced daemon) is cut off by the header of the next epoch, which says how many
bytes of every older segment are part of the log. A record that was once whole is never dropped in silence.

A segment is `<epoch>-<index>.jsonl`. Its first line is the header, the others are records, numbered without a gap:

    <crc32> head {"format":1,"epoch":7,"after_seq":120,"reads":{"00000006-000001.jsonl":81234}}
    <crc32> 121 <payload>

The checksum covers all that follows it but the line end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from oj_daemon.errors import StoreError
from oj_daemon.store.files import copy_aside, store_error

FORMAT: Final = 1

_NAME: Final = re.compile(r"(\d{8})-(\d{6})\.jsonl")
_RECORD: Final = re.compile(rb"[0-9a-f]{8} [0-9]+ ")
_HOLE: Final = bytes(2)  # two zeros: one may come from a single flipped bit
_BUFFER: Final = 1 << 20
_RECOVER: Final = (
    "oj daemon start --recover   (keeps copies of the damaged files and starts from the valid part)"
)


class Head(msgspec.Struct, frozen=True):
    """First line of a segment: what the log consisted of when the segment was begun."""

    format: int
    epoch: int
    after_seq: int
    """Number of the last record before this segment."""
    reads: dict[str, int]
    """Segments of earlier epochs that existed then, with the bytes of each that are part of the log (0 = none)."""


class _Format(msgspec.Struct, frozen=True):
    format: int


class Segment:
    """One segment file as found at the start."""

    __slots__ = ("cut", "epoch", "head", "head_bytes", "name", "path", "size", "spoiled", "strays")

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self.epoch = epoch_of(path.name)
        self.head: Head | None = None
        self.head_bytes = self.size = 0
        self.cut: int | None = None
        """Bytes that are part of the log, as far as later epochs have said."""
        self.strays = 0
        """Whole records after the cut that were reported."""
        self.spoiled = False
        """The header is unreadable though it was written whole."""

    @property
    def base(self) -> int:
        """Number of the last record before this segment; -1 when unknown."""
        return -1 if self.head is None else self.head.after_seq

    @property
    def is_void(self) -> bool:
        """Nothing in the file is part of the log."""
        return self.cut == 0 or (self.head is None and not self.spoiled)


def segment_path(folder: Path, epoch: int, index: int) -> Path:
    """Where the `index`-th segment of an epoch lies; names sort in the order of the log."""
    return folder / f"{epoch:08d}-{index:06d}.jsonl"


def segment_names(folder: Path) -> list[str]:
    """The names of all segments in a folder, in the order of the log."""
    return sorted(filter(_NAME.fullmatch, os.listdir(folder)))  # noqa: PTH208 - after every sync, so fast


def epoch_of(name: str) -> int:
    """The epoch in a segment's name."""
    return int(name[:8])


def line(label: bytes, payload: bytes) -> bytes:
    """One line of a segment: checksum, label (`head` or a number), payload."""
    body = b"%b %b" % (label, payload)
    return b"%08x %b\n" % (crc32(body), body)


def read_segments(folder: Path, names: Sequence[str]) -> list[Segment]:
    """Read the headers and apply the cuts they carry; a header of a newer format is refused."""
    segments = []
    for name in names:
        segment = Segment(folder / name)
        try:
            _read_head(segment)
        except FileNotFoundError:
            continue  # the daemon that is being replaced just dropped it: a snapshot holds it
        except OSError as exc:
            raise store_error(exc, "read the log segment", segment.path) from exc
        segments.append(segment)
    for segment in segments:
        # A later epoch that does not list a file began before the file was there: not a byte counts.
        later = [other.head for other in segments if other.head and other.epoch > segment.epoch]
        segment.cut = min((head.reads.get(segment.name, 0) for head in later), default=None)
    return segments


def _read_head(segment: Segment) -> None:
    with segment.path.open("rb") as file:
        first = file.readline()
        segment.size = os.fstat(file.fileno()).st_size
    body = first[9:-1]
    if first[:9] + body[:5] != b"%08x head " % crc32(body):
        segment.spoiled = segment.size > len(first) or (
            first.endswith(b"\n") and _HOLE not in first
        )
        return
    version = msgspec.json.decode(body[5:], type=_Format).format
    if version > FORMAT:
        raise StoreError(
            f"the log format {version} of {segment.path} is newer than supported ({FORMAT})",
            code="newer",
            hint="start the daemon of the version that wrote it, or upgrade oj",
        )
    segment.head = msgspec.json.decode(body[5:], type=Head)
    segment.head_bytes = len(first)


class Replay:
    """One reading of the whole log; when `records` is exhausted, `seq`, `warnings` and every cut are final."""

    def __init__(
        self, folder: Path, segments: Sequence[Segment], *, after_seq: int, recover: bool
    ) -> None:
        self.folder, self.segments = folder, segments
        self.after_seq, self.recover = after_seq, recover
        self.seq = 0
        self.warnings: list[str] = []
        self.ends: dict[Path, int] = {}
        """Last record of each segment that holds a part of the log."""

    def records(self) -> Iterator[tuple[int, bytes]]:
        """Yield number and payload of every record after `after_seq`; damage raises StoreError unless `recover`."""
        for segment in self.segments:
            self._report_strays(segment)
        live = [segment for segment in self.segments if not segment.is_void]
        if self.after_seq and not live:
            self._log_is_missing()
        for segment, following in zip_longest(live, live[1:]):
            if segment.is_void:  # made so a moment ago, by a recovery
                continue
            problem = self._misfit(segment)
            if problem:
                self._damaged(segment, 0, problem)
                continue
            self.seq = segment.base
            if following is not None and self.seq <= following.base <= self.after_seq:
                self.seq = following.base  # the snapshot holds all of it: no need to read it
                segment.cut = segment.size if segment.cut is None else segment.cut
            else:
                yield from self._read(segment)
            self.ends[segment.path] = self.seq
        self.seq = max(self.seq, self.after_seq)

    def _misfit(self, segment: Segment) -> str:
        base = segment.base
        if segment.spoiled:
            return "the header is unreadable"
        if base < self.seq:
            return f"it begins after record {base}, but the log has {self.seq} by then"
        if base > self.seq and base > self.after_seq:
            return f"records {max(self.seq, self.after_seq) + 1} to {base}, which came before it, are missing"
        return ""

    def _read(self, segment: Segment) -> Iterator[tuple[int, bytes]]:
        # The hot loop of a start: 200,000 records in about the time that json.loads takes for them.
        seq, offset, after_seq = self.seq, segment.head_bytes, self.after_seq
        end = segment.size if segment.cut is None else segment.cut
        with segment.path.open("rb", buffering=_BUFFER) as file:
            file.seek(offset)
            for text in file:
                if offset >= end:
                    break
                label = b"%d " % (seq + 1)
                body = text[9:-1]
                if text[:9] != b"%08x " % crc32(body) or not body.startswith(label):
                    body = text[9:]  # only the line end may be missing: the record is whole then
                    if text[:9] != b"%08x " % crc32(body) or not body.startswith(label):
                        self.seq = seq
                        self._bad_line(
                            segment, offset, text, file.read(max(0, end - offset - len(text)))
                        )
                        return
                seq += 1
                offset += len(text)
                if seq > after_seq:
                    yield seq, body[len(label) :]
        self.seq = seq
        segment.cut = offset

    def _bad_line(self, segment: Segment, offset: int, text: bytes, rest: bytes) -> None:
        """Tell a torn write, which nobody was promised, from damage to what was acknowledged.

        A write that was cut short has no line end; one that a power loss thinned out reads as zeros, which no record
        contains. Anything else, or a sound record further on, was once whole.
        """
        looks_torn = not text.endswith(b"\n") or _HOLE in text
        if segment.cut is not None or not looks_torn or any(map(_is_record, rest.split(b"\n"))):
            what = "the record is damaged (checksum)"
            if _is_record(text):
                what = f"record {text[9:].split(b' ', 1)[0].decode()} follows record {self.seq}"
            self._damaged(segment, offset, what)
            return
        copy = copy_aside(segment.path, "torn", start=offset)
        self.warnings.append(
            f"the last write to {segment.path} was cut short at byte {offset} and was never acknowledged; "
            f"what there is of it is kept in {copy.name}"
        )
        segment.cut = offset

    def _damaged(self, segment: Segment, offset: int, what: str) -> None:
        """Refuse to go on; with `recover`, end the log here and keep copies of what is dropped."""
        live = [later for later in self.segments if not later.is_void]
        rest = live[live.index(segment) :]
        lost = sum(_count_records(later.path, offset if later is segment else 0) for later in rest)
        place = f"{segment.path}, line {_line_number(segment.path, offset)}, byte {offset}"
        if not self.recover:
            raise StoreError(
                f"the log is damaged: {place}: {what}; {lost} intact records follow",
                code="corrupt",
                hint=_RECOVER,
            )
        if offset == 0 and not self.seq and not self.after_seq:
            raise StoreError(
                f"the log is damaged and no part of it can be used: {place}: {what}",
                code="corrupt",
                hint=f"restore {self.folder.parent} from a backup, or move it away to start empty",
            )
        copies = [copy_aside(later.path, "damaged").name for later in rest]
        self.warnings.append(
            f"recovered a damaged log: {place}: {what}; dropped {lost} intact records after record "
            f"{max(self.seq, self.after_seq)}, kept copies: {', '.join(copies)}"
        )
        for later in rest:
            later.cut, later.spoiled = 0, False
        segment.cut = offset

    def _log_is_missing(self) -> None:
        problem = f"the log in {self.folder} is gone, but a snapshot says that it had {self.after_seq} records or more"
        if not self.recover:
            raise StoreError(problem, code="corrupt", hint=_RECOVER)
        self.warnings.append(f"{problem}; started from the snapshot alone")

    def _report_strays(self, segment: Segment) -> None:
        if segment.cut is not None and segment.cut < segment.size:
            self.warnings += report_strays(segment)


def report_strays(segment: Segment) -> list[str]:
    """What to tell about records after the cut of a segment, if there are more than when this was asked last."""
    cut = segment.cut or 0
    strays = _count_records(segment.path, cut)
    if strays <= segment.strays:
        return []
    segment.strays = strays
    where = f"{strays} records in {segment.path} from byte {cut} on"
    why = "a replaced daemon wrote them, or a recovery dropped them"
    return [f"{where} are not part of the log and were ignored ({why})"]


def _is_record(text: bytes) -> bool:
    """Whether the line is a whole record with the right checksum, whatever its number."""
    checksum = b"%08x" % crc32(text[9:].removesuffix(b"\n"))
    return _RECORD.match(text) is not None and text[:8] == checksum


def _count_records(path: Path, start: int) -> int:
    with path.open("rb", buffering=_BUFFER) as file:
        file.seek(start)
        return sum(map(_is_record, file))


def _line_number(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        return file.read(offset).count(b"\n") + 1
