"""What clients send and how a refusal looks, for HTTP and WebSocket alike.

Rule: pure. A body is decoded into a struct or refused with a sentence; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from oj_daemon.drivers.base import Answer, Json, QuestionAnswer
from oj_daemon.errors import OjError

T = TypeVar("T")

MESSAGE_MOST: Final = 16 * 1024 * 1024
"""Bytes of one message of a WebSocket from a client."""
STATUS: Final = {
    "exited": (410, "EXITED"),
    "busy": (409, "AGENT_BUSY"),
    "not_found": (404, "NOT_FOUND"),
    "conflict": (409, "CONFLICT"),
    "invalid": (400, "BAD_REQUEST"),
    "cwd": (400, "BAD_REQUEST"),
}
"""Code of an error of ours -> status and code on the wire."""


class Refused(OjError):
    """What was asked cannot be done; becomes the error reply."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, code=code)
        self.status = status


def bad(message: str) -> Refused:
    """The request makes no sense."""
    return Refused(400, "BAD_REQUEST", message)


class NudgeBody(msgspec.Struct, frozen=True):
    """POST agent/nudge."""

    message: str
    wait_ms: int = 0
    id: str = ""
    """What is asked for again under the same id is not typed again; the first answer is given again."""


class AnswerBody(msgspec.Struct, frozen=True):
    """One answer of several."""

    option: int | None = None
    options: tuple[int, ...] = ()
    text: str | None = None


class RespondBody(msgspec.Struct, frozen=True):
    """POST agent/respond."""

    accept: bool | None = None
    option: int | None = None
    text: str | None = None
    answers: tuple[AnswerBody, ...] | None = None
    prompt_seq: int | None = None

    def answer(self) -> Answer:
        """In the words of the machine."""
        return Answer(
            accept=self.accept,
            option=self.option,
            text=self.text or "",
            answers=tuple(
                QuestionAnswer(
                    options=one.options or (() if one.option is None else (one.option,)),
                    text=one.text or "",
                )
                for one in self.answers or ()
            ),
        )


class InputBody(msgspec.Struct, frozen=True):
    """POST input."""

    text: str
    enter: bool = False


class RawBody(msgspec.Struct, frozen=True):
    """POST input/raw."""

    data: str


class KeysBody(msgspec.Struct, frozen=True):
    """POST input/keys."""

    keys: tuple[str, ...]


class SignalBody(msgspec.Struct, frozen=True):
    """POST signal."""

    signal: str | int


class SizeBody(msgspec.Struct, frozen=True):
    """POST resize."""

    cols: int
    rows: int


class HookBody(msgspec.Struct, frozen=True):
    """POST hooks/start and hooks/stop."""

    data: Json = {}
    event: str = ""


class RestartBody(msgspec.Struct, frozen=True):
    """POST session/restart."""

    force: bool = False


class EndBody(msgspec.Struct, frozen=True):
    """POST exec/{id}/end."""

    grace_ms: int = 5000


class SinceBody(msgspec.Struct, frozen=True):
    """The frame transcript:catchup."""

    since_transcript: int = 0
    since_line: int = 0


class NumberBody(msgspec.Struct, frozen=True):
    """The frame transcript:get."""

    number: int


def decode(data: bytes, kind: type[T]) -> T:
    """A body; an empty one stands for no fields."""
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        raise bad(f"the body is not what is expected: {error}") from error


def convert(frame: Json, kind: type[T]) -> T:
    """A frame that is decoded already."""
    try:
        return msgspec.convert(frame, kind)
    except msgspec.MsgspecError as error:
        raise bad(f"the frame is not what is expected: {error}") from error


def json_object(value: object) -> Json:
    """Any JSON object."""
    if not isinstance(value, Mapping):
        raise bad("expected a JSON object")
    return value
