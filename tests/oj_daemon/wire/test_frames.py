"""Tests of oj_daemon/wire/frames.py."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.errors import WireError
from oj_daemon.wire.frames import FrameReader, frame, pack

payloads = st.lists(st.binary(min_size=1, max_size=200), max_size=8)


@given(payloads, st.integers(1, 50))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(
    sent: list[bytes], size: int
) -> None:
    stream = b"".join(frame(payload) for payload in sent)
    reader = FrameReader()
    received: list[bytes] = []
    for start in range(0, len(stream), size):
        received += reader.feed(stream[start : start + size])
    assert received == sent
    assert reader.is_between_frames


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none()))
def test_a_packed_message_is_its_length_and_its_json(message: dict[str, object]) -> None:
    packed = pack(message)
    assert int.from_bytes(packed[:4], "big") == len(packed) - 4
    assert json.loads(packed[4:]) == message


def test_a_reader_knows_that_it_is_inside_a_frame() -> None:
    reader = FrameReader()
    assert reader.feed(frame(b"{}")[:3]) == []
    assert not reader.is_between_frames


@pytest.mark.parametrize(
    ("header", "message", "code"),
    [
        (b"\0\0\0\0", "frame of zero bytes", "invalid"),
        (b"\xff\xff\xff\xff", "message too large: 4294967295 bytes, the limit is 100", "too_large"),
        (b"\0\0\0\x65", "message too large: 101 bytes, the limit is 100", "too_large"),
        (
            b"GET / HTTP/1.1\r\n",
            "message too large: 1195725856 bytes, the limit is 100",
            "too_large",
        ),
    ],
)
def test_a_length_that_cannot_be_right_is_an_error(header: bytes, message: str, code: str) -> None:
    with pytest.raises(WireError, match=f"^{message}$") as failure:
        FrameReader(100).feed(header)
    assert failure.value.code == code


def test_the_largest_frame_is_still_a_frame() -> None:
    assert FrameReader(100).feed(frame(bytes(100), 100)) == [bytes(100)]


def test_frames_before_a_bad_length_are_not_lost() -> None:
    reader = FrameReader()
    assert reader.feed(frame(b"one") + frame(b"two") + b"\0\0\0\0") == [b"one", b"two"]
    assert reader.problem is not None
    with pytest.raises(WireError):
        reader.feed(frame(b"three"))


@pytest.mark.parametrize("size", [0, 101])
def test_a_message_that_no_reader_would_take_is_not_framed(size: int) -> None:
    with pytest.raises(WireError) as failure:
        frame(bytes(size), 100)
    assert failure.value.code == "too_large"


def test_text_that_is_not_utf8_is_refused_with_the_place() -> None:
    with pytest.raises(WireError, match=r"^send RunCommand: not valid UTF-8 near .*name-.*udcff"):
        pack({"type": "RunCommand", "args": ["name-\udcff"]})
