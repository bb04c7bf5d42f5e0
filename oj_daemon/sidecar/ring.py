"""The newest bytes of a stream, addressed by their distance from its beginning.

Rule: an offset means the same byte for ever; a reader that fell behind is told where what is left begins.
"""

from __future__ import annotations

from typing import NamedTuple


class Piece(NamedTuple):
    """Some bytes of the stream."""

    data: bytes
    offset: int
    """Of the first byte; greater than asked for when older bytes are gone."""
    next_offset: int


class Ring:
    """Keeps the last `size` bytes; takes memory only as they come."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept = bytearray()
        self.total = 0
        """Bytes ever appended."""

    @property
    def oldest(self) -> int:
        """Offset of the first byte that is still there."""
        return self.total - len(self._kept)

    def append(self, data: bytes) -> None:
        """Add to the end and forget from the beginning."""
        self.total += len(data)
        self._kept += data[-self._size :]
        if len(self._kept) > self._size:
            del self._kept[: -self._size]  # moves a pointer, not the bytes

    def read(self, offset: int, limit: int | None = None) -> Piece:
        """What is there from `offset` on, at most `limit` bytes."""
        begin = min(max(offset, self.oldest), self.total)
        end = self.total if limit is None else min(begin + max(limit, 0), self.total)
        base = self.oldest
        return Piece(bytes(self._kept[begin - base : end - base]), begin, end)
