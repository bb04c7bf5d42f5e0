"""Waiting in tests of the live view: for what has to become true, never for a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

from oj_tui.app import OjApp

TURNS = 150
"""After so many turns of the app it will not become true any more."""


async def until(pilot: Pilot[Any], is_true: Callable[[], object]) -> None:
    """Let the app go on until this is true."""
    for _ in range(TURNS):
        await pilot.pause()
        if is_true():
            return
        # Answers come from threads: let them.
        await pilot.pause(0.01)
    message = "it did not become true"
    raise AssertionError(message)


async def settled(pilot: Pilot[Any]) -> None:
    """Until everything that was begun has been done."""
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def lent(app: OjApp, pilot: Pilot[Any], *keys: str) -> list[tuple[str, ...]]:
    """To which other `oj` the terminal is lent by these keys; a terminal is no test's to lend."""
    words: list[tuple[str, ...]] = []
    app.run_oj = lambda *argv: words.append(argv)  # type: ignore[method-assign]  # see above
    await pilot.press(*keys)
    await pilot.pause()
    return words
