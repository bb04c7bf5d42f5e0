"""A feed for tests of the live view: answers what it was told to, tells what it is given, and writes down what was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oj_daemon.errors import OjError
from oj_tui.feed import Lost, News, Tell
from tests.support.replies import Message, reply

Answer = Message | OjError | Callable[[Message], Message]


class FakeFollow:
    """One Watch; news are sent by the test."""

    def __init__(self, tell: Tell, fields: Message) -> None:
        self.fields = fields
        self.is_stopped = False
        self.taken_count = 0
        self._tell = tell

    def taken(self) -> None:
        """As the real one."""
        self.taken_count += 1

    def stop(self) -> None:
        """As the real one."""
        self.is_stopped = True

    def send(self, **fields: Any) -> None:
        """Tell news: fields of Changes."""
        self._tell(News(self, reply("Changes", **{"seq": 1, "epoch": 1, **fields})))

    def lose(self, error: OjError) -> None:
        """Tell that the daemon cannot be asked."""
        self._tell(Lost(self, error))


class FakeFeed:
    """No daemon."""

    def __init__(self) -> None:
        self.follows: list[FakeFollow] = []
        """The first is that of the app itself."""
        self.asked: list[Message] = []
        """Every question, with its type."""
        self._answers: dict[str, Answer] = {}

    def answer(self, request: str, answer: Answer) -> None:
        """What to say to questions of this type: a reply, an error to raise, or a function of the question."""
        self._answers[request] = answer

    def of(self, request: str) -> list[Message]:
        """The questions of one type, without their type."""
        return [
            {key: value for key, value in each.items() if key != "type"}
            for each in self.asked
            if each["type"] == request
        ]

    def follow(self, tell: Tell, **fields: object) -> FakeFollow:
        """As the real one."""
        self.follows.append(FakeFollow(tell, dict(fields)))
        return self.follows[-1]

    def call(self, type: str, /, **fields: object) -> Message:  # noqa: A002
        """As the real one."""
        asked = {"type": type, **fields}
        self.asked.append(asked)
        answer = self._answers.get(
            type, OjError(f"{type}: the test has no answer", code="internal")
        )
        if isinstance(answer, OjError):
            raise answer
        return answer(asked) if callable(answer) else answer

    def close(self) -> None:
        """As the real one."""
