"""The live view over a fake feed, for scenarios: it is told what there is, then driven."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_args

import pytest
from textual.pilot import Pilot

from oj_daemon.errors import OjError
from oj_daemon.wire import requests
from oj_tui.app import OjApp
from oj_tui.crash import CrashLog
from oj_tui.screens import open as opening
from tests.support.fake_feed import FakeFeed
from tests.support.plain_screen import PlainScreen
from tests.support.replies import NOW

Scenario = Callable[[OjApp, Pilot[None], FakeFeed], Awaitable[None]]


def play(
    scenario: Scenario,
    *,
    known: Mapping[str, Any] | None = None,
    start: str = "jobs",
    size: tuple[int, int] = (80, 24),
    crashes: CrashLog | None = None,
) -> None:
    """Run a scenario after the daemon has told what is `known` (fields of Changes; None: it has told nothing)."""

    async def run() -> None:
        feed = FakeFeed()
        app = OjApp(feed, start=start, now=lambda: NOW, crashes=crashes)
        async with app.run_test(size=size, notifications=True) as pilot:
            if known is not None:
                feed.follows[0].send(is_snapshot=True, **known)
            await pilot.pause()
            await scenario(app, pilot, feed)

    asyncio.run(run())


def refuse_all(feed: FakeFeed) -> None:
    """Whatever a screen asks is refused: for tests that only pass through it."""
    for question in get_args(requests.Query):
        feed.answer(question.__name__, OjError("refused"))


def told(app: OjApp) -> list[str]:
    """What was told beside the screen, oldest first."""
    return [each.message for each in app._notifications]


async def answered(app: OjApp, pilot: Pilot[None]) -> None:
    """All that was asked has been answered, and what follows from that is done."""
    await app.workers.wait_for_complete()
    await pilot.pause()


@pytest.fixture
def plain_screens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything opens as a PlainScreen."""
    for prefix in opening.SCREENS:
        monkeypatch.setitem(
            opening.SCREENS, prefix, ("tests.support.plain_screen", PlainScreen.__name__)
        )
