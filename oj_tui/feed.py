"""The daemon's news and answers, brought into the app.

Rule: the only I/O of the live view. Nothing here blocks the app, and nothing piles up: the next news are asked for when the
last ones were taken in, so an app that is busy, or lends its terminal to an agent, is told the newest state once. A daemon that
goes away is looked for until it is back; then the story goes on where it was left, or anew, as the daemon says.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from textual.message import Message

from oj_daemon.errors import OjError
from oj_daemon.settings import Settings
from oj_daemon.wire.client import Client
from oj_tui.store import View

PACE_SECONDS: Final = 0.1
"""Least time between two answers that are shown: nobody reads faster."""
WAIT_MS: Final = 10_000
"""How long the daemon may keep one question open; also how soon a dead connection is noticed, on top of its timeout."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
IDLE_CLIENTS: Final = 4
"""Connections that are kept for the next question."""

Tell = Callable[[Message], object]
"""Gives a message to the app or to a screen, from any thread."""


class News(Message):
    """A Changes has come. Whoever takes it in calls `taken`."""

    def __init__(self, follow: Followed, changes: View) -> None:
        super().__init__()
        self.follow = follow
        self.changes = changes


class Lost(Message):
    """The daemon cannot be asked at the moment; sent once, until the next News."""

    def __init__(self, follow: Followed, error: OjError) -> None:
        super().__init__()
        self.follow = follow
        self.error = error


class Followed(Protocol):
    """Something that is asked for again and again."""

    def taken(self) -> None:
        """The last news were taken in: the next may come."""

    def stop(self) -> None:
        """Nothing of it is wanted any more."""


class Feed(Protocol):
    """What the app needs of a daemon."""

    def follow(self, tell: Tell, **fields: object) -> Followed:
        """Be told of what a Watch with these fields brings, until it is stopped."""

    def call(self, type: str, /, **fields: Any) -> View:  # noqa: A002, ANN401 - the wire's word and values
        """Ask one question and wait for the answer; raises OjError."""

    def close(self) -> None:
        """Nothing more is asked."""


class DaemonFeed:
    """The feed of a real daemon."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: list[Client] = []
        self._lock = threading.Lock()

    def follow(self, tell: Tell, **fields: object) -> Followed:
        """Ask in a thread of its own."""
        return Follow(Client(self._settings), tell, fields)

    def call(self, type: str, /, **fields: Any) -> View:  # noqa: A002, ANN401 - the wire's word and values
        """Ask over a connection that nobody else uses meanwhile."""
        with self._lock:
            client = self._idle.pop() if self._idle else Client(self._settings)
        try:
            return client.call(type, **fields)
        finally:  # also after an error: one of the daemon leaves the connection as it was, any other closes it
            with self._lock:
                if len(self._idle) < IDLE_CLIENTS:
                    self._idle.append(client)
                else:
                    client.close()

    def close(self) -> None:
        """Hang up where nothing is being asked."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()


class Follow:
    """One Watch, asked again and again in a thread of its own."""

    def __init__(self, client: Client, tell: Tell, fields: dict[str, Any]) -> None:
        self._client = client
        self._tell = tell
        self._fields: dict[str, Any] = {"wait_ms": WAIT_MS, **fields}
        self._is_taken = threading.Event()
        self._is_stopped = threading.Event()
        # A daemon thread: it may sit in a question that nobody waits for any more when the app ends.
        threading.Thread(target=self._run, name="follow", daemon=True).start()

    def taken(self) -> None:
        """The last news were taken in: the next may come."""
        self._is_taken.set()

    def stop(self) -> None:
        """End the thread, as soon as it hears of anything."""
        self._is_stopped.set()
        self._is_taken.set()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        is_lost = False
        while not self._is_stopped.is_set():
            try:
                changes = self._next()
            except Exception as error:  # noqa: BLE001 - without this thread the view would stand still and not say so
                self._client.close()
                if not is_lost:
                    is_lost = True
                    self._send(Lost(self, _in_words(error)))
                self._is_stopped.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            is_lost = False
            self._is_taken.clear()
            self._send(News(self, changes))
            self._is_taken.wait()
            self._is_stopped.wait(PACE_SECONDS)
        self._client.close()

    def _next(self) -> View:
        """The next answer; the question after it begins where it ends."""
        changes = self._client.call("Watch", **self._fields)
        self._fields.update(since=changes["seq"], epoch=changes["epoch"])
        ends = {id_: chunk["offset"] for id_, chunk in changes["logs"].items()}
        self._fields["logs"] = {**self._fields.get("logs", {}), **ends}
        return changes

    def _send(self, message: Message) -> None:
        if not self._is_stopped.is_set():
            self._tell(message)


def _in_words(error: Exception) -> OjError:
    if isinstance(error, OjError):
        return error
    return OjError(f"a bug in oj tui: {type(error).__name__}: {error}", code="internal")


async def ask(feed: Feed, type: str, /, **fields: object) -> View:  # noqa: A002 - the wire's word
    """Ask without holding up the app; raises OjError."""
    return await asyncio.to_thread(feed.call, type, **fields)
