from __future__ import annotations

import pytest
from textual.pilot import Pilot

from oj_tui.app import OjApp
from oj_tui.screens.open import open_by_id
from tests.support.fake_feed import FakeFeed
from tests.support.live_view import play, told
from tests.support.plain_screen import PlainScreen
from tests.support.replies import AGENT, DECISION, JOB, WORKSPACE


@pytest.mark.usefixtures("plain_screens")
@pytest.mark.parametrize("id_", [JOB, AGENT, DECISION, "crw-4f9h2k7m1n3p5q8r"])
def test_a_thing_is_opened_above_what_is_shown(id_: str) -> None:
    async def scenario(app: OjApp, _pilot: Pilot[None], _feed: FakeFeed) -> None:
        below = app.screen
        screen = await open_by_id(app, id_)
        assert isinstance(screen, PlainScreen)
        assert screen.shows == id_
        assert app.screen_stack == [below, screen]

    play(scenario, known={})


def test_what_has_no_screen_is_told() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        assert await open_by_id(app, WORKSPACE) is None
        await pilot.pause()
        assert told(app) == [f"there is no screen for '{WORKSPACE}'"]

    play(scenario, known={})
