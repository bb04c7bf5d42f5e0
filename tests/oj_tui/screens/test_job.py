from __future__ import annotations

import asyncio

from oj_tui.app import OjApp
from tests.support import screens
from tests.support.fake_feed import FakeFeed
from tests.support.replies import NOW, OTHER, summary


def test_jobs_stand_in_a_table_the_newest_change_first() -> None:
    async def scenario() -> None:
        feed = FakeFeed()
        app = OjApp(feed, start="jobs", now=lambda: NOW)
        async with app.run_test(size=(80, 24)) as pilot:
            feed.follows[0].send(
                is_snapshot=True,
                jobs=[summary(), summary(id=OTHER, name="deploy", updated_at_ms=NOW - 1000)],
            )
            await pilot.pause()
            screens.compare(app, "jobs")

    asyncio.run(scenario())
