from __future__ import annotations

import pytest
from textual.pilot import Pilot

from oj_tui.app import OjApp
from oj_tui.widgets.bar import Tabs
from tests.support import screens
from tests.support.fake_feed import FakeFeed
from tests.support.live_view import play, refuse_all
from tests.support.replies import decision

WIDE = " 1 Overview   2 Jobs   3 Agents   4 Decisions (1)   5 Daemon"
NARROW = " 1   2 Jobs   3   4 (1)   5"


def test_the_tabs_tell_how_many_decisions_are_open() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        assert screens.lines(app)[0] == WIDE.replace(" (1)", "")
        feed.follows[0].send(decisions=[decision(), decision(id="dec-2", status="dismissed")])
        await pilot.pause()
        assert screens.lines(app)[0] == WIDE

    play(scenario, known={})


def test_where_there_is_little_room_only_the_current_tab_has_its_name() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.resize_terminal(40, 10)
        await pilot.pause()
        assert screens.lines(app)[0] == NARROW
        await pilot.resize_terminal(80, 10)
        await pilot.pause()
        assert screens.lines(app)[0] == WIDE

    play(scenario, known={"decisions": [decision()]})


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize(("number", "mode"), [(1, "overview"), (2, "jobs"), (3, "agents")])
def test_a_click_goes_to_the_mode(number: int, mode: str, width: int) -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        refuse_all(feed)
        at = screens.lines(app)[0].index(str(number))
        await pilot.click(Tabs, offset=(at, 0))
        await pilot.pause()
        assert app.current_mode == mode

    play(scenario, known={}, size=(width, 10))


def test_a_click_beside_the_tabs_does_nothing() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.click(Tabs, offset=(75, 0))
        assert app.current_mode == "jobs"

    play(scenario, known={})
