"""Bytes to messages and back: a 4-byte big-endian length, then that many bytes of JSON.

Rule: sans-IO and standard library only; the listener, the blocking client and the tests share this one codec. What is inside a
frame is the business of whoever reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from oj_daemon.errors import WireError

HEADER: Final = 4
MAX_REQUEST: Final = 16 << 20
"""Bytes of JSON that a daemon reads as one request."""
MAX_REPLY: Final = 200 << 20
"""Bytes of JSON that a client reads as one reply."""

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def frame(payload: bytes, limit: int = MAX_REPLY) -> bytes:
    """The frame around JSON that is already encoded."""
    size = len(payload)
    if not 0 < size <= limit:
        raise WireError(
            f"message of {size} bytes: {'empty' if not size else f'the limit is {limit} bytes'}",
            code="too_large",
        )
    return size.to_bytes(HEADER, "big") + payload


def pack(message: Mapping[str, object], limit: int = MAX_REQUEST) -> bytes:
    """The frame of one message given as a plain dictionary."""
    text = _encode(message)
    try:
        payload = text.encode("utf-8")
    except UnicodeEncodeError as exc:
        # Arguments that are not UTF-8 reach Python as lone surrogates, which JSON cannot carry.
        around = (
            text[max(0, exc.start - 20) : exc.end + 20]
            .encode("utf-8", "backslashreplace")
            .decode("utf-8")
        )
        raise WireError(
            f"send {message.get('type', 'a message')}: not valid UTF-8 near {around!r}",
            code="invalid",
        ) from exc
    return frame(payload, limit)


DATA: Final = 0
RESIZE: Final = 1
DETACH: Final = 2
EXIT: Final = 3
"""First byte of each frame once a terminal is attached: bytes of the terminal; and with JSON behind it {cols, rows} of the
person's terminal, {reason} of who leaves (from the daemon: why it must), {code, signal} of the program that ended."""


class FrameReader:
    """Collects bytes and hands out whole frames.

    A length that cannot be right makes the rest of the stream unreadable: `feed` hands out the frames before it, `problem`
    tells, and from then on `feed` raises.
    """

    __slots__ = ("_buffer", "_limit", "problem")

    def __init__(self, limit: int = MAX_REPLY) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self.problem: WireError | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Every frame that is complete now, without its length."""
        if self.problem is not None:
            raise self.problem
        buffer = self._buffer
        buffer += data
        frames: list[bytes] = []
        start = 0
        end = len(buffer)
        while end - start >= HEADER:
            size = int.from_bytes(buffer[start : start + HEADER], "big")
            if not 0 < size <= self._limit:
                self.problem = _bad_length(size, self._limit)
                break
            if end - start < HEADER + size:
                break
            frames.append(bytes(buffer[start + HEADER : start + HEADER + size]))
            start += HEADER + size
        if start:
            del buffer[:start]
        if self.problem is not None and not frames:
            raise self.problem
        return frames

    @property
    def is_between_frames(self) -> bool:
        """No frame has been begun; an end of the stream here loses nothing."""
        return not self._buffer


def _bad_length(size: int, limit: int) -> WireError:
    if size == 0:
        return WireError("frame of zero bytes", code="invalid")
    return WireError(f"message too large: {size} bytes, the limit is {limit}", code="too_large")
