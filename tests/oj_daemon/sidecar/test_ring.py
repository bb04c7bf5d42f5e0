"""The newest bytes of a stream by their offset."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.sidecar.ring import Piece, Ring


def test_reading_below_the_oldest_byte_says_where_what_is_left_begins() -> None:
    ring = Ring(4)
    ring.append(b"abc")
    ring.append(b"defg")
    assert ring.read(0) == Piece(b"defg", 3, 7)
    assert ring.read(5, 1) == Piece(b"f", 5, 6)


def test_reading_at_or_past_the_end_gives_nothing_and_the_end() -> None:
    ring = Ring(4)
    ring.append(b"ab")
    assert ring.read(2) == ring.read(99) == Piece(b"", 2, 2)


@given(st.lists(st.binary(max_size=20)), st.integers(1, 16), st.integers(0, 60))
def test_what_is_read_is_always_the_tail_of_what_was_written(
    parts: list[bytes], size: int, offset: int
) -> None:
    ring = Ring(size)
    for part in parts:
        ring.append(part)
    whole = b"".join(parts)
    piece = ring.read(offset)
    assert piece.offset == min(max(offset, len(whole) - size, 0), len(whole))
    assert piece.data == whole[piece.offset :]
    assert piece.next_offset == ring.total == len(whole)
