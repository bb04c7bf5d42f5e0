"""Errors that nobody expected: written down, told in words, and survived.

Rule: an error costs what was being done, never the view. The library ends whatever a handler of raised, for good; what is
Unbroken tells the app instead and goes on. The same error is written and told once: a drawing that fails does so ten times a
second.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from textual.message import Message
from textual.message_pump import MessagePump
from textual.worker import WorkerFailed

from oj_daemon.wire.format import moment, now_ms

FILE: Final = "tui.log"


@contextmanager
def survived(pump: MessagePump) -> Iterator[None]:
    """What happens inside may fail: the app is told, and what stands after it goes on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, the next key must still be heard
        pump.app._handle_exception(error)  # noqa: SLF001 - the library's one place for them


class Unbroken(MessagePump):
    """Goes on after an error in one of its handlers; for the app and all screens, whose handlers are ours."""

    async def _dispatch_message(self, message: Message) -> None:
        with survived(self):
            await super()._dispatch_message(message)


class CrashLog:
    """Where they are written."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._known: set[tuple[str, str, int]] = set()

    def write(self, error: BaseException) -> str:
        """Write one down; the words to show, none if the same was shown before."""
        if isinstance(error, WorkerFailed):
            error = error.error
        last = traceback.extract_tb(error.__traceback__)[-1:]
        name = type(error).__name__
        kind = (name, last[0].filename if last else "", (last[0].lineno or 0) if last else 0)
        if kind in self._known:
            return ""
        self._known.add(kind)
        words = f"a bug in oj tui: {name}: {error}\nthe view goes on; "
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{moment(now_ms())}\n{''.join(traceback.format_exception(error))}\n")
        except OSError as failure:
            return f"{words}it could not be written to {self.path}: {failure.strerror}"
        return f"{words}what happened is in {self.path}"
