from __future__ import annotations

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from oj_tui.app import OjApp
from oj_tui.screens.jump import JumpLine
from oj_tui.screens.page import Page
from tests.support import screens
from tests.support.fake_feed import FakeFeed
from tests.support.live_view import play, refuse_all
from tests.support.plain_screen import PlainScreen
from tests.support.replies import AGENT, JOB, agent, summary

KNOWN = {"jobs": [summary()], "agents": [agent()]}


def typed(line: str) -> list[str]:
    """The keys of a line."""
    return ["space" if char == " " else char for char in line]


def test_a_line_goes_to_a_mode() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        refuse_all(feed)
        await pilot.press("colon", *"daem", "enter")
        await pilot.pause()
        assert app.current_mode == "daemon"
        assert isinstance(app.screen, Page)

    play(scenario, known=KNOWN)


@pytest.mark.usefixtures("plain_screens")
@pytest.mark.parametrize(("line", "shown"), [("job 4f9", JOB), ("agent coder", AGENT)])
def test_a_line_opens_a_thing(line: str, shown: str) -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("colon", *typed(line), "enter")
        await pilot.pause()
        assert isinstance(app.screen, PlainScreen)
        assert app.screen.shows == shown

    play(scenario, known=KNOWN)


def test_a_line_ends_the_view() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("colon", "q", "enter")
        await pilot.pause()
        assert app._exit

    play(scenario, known=KNOWN)


def test_a_line_that_cannot_be_read_stays_with_the_reason() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("colon", *"jbos", "enter")
        await pilot.pause()
        screens.compare(app, "jump")
        await pilot.press("backspace")
        await pilot.pause()
        assert "did you mean" not in screens.text(app)
        await pilot.press("escape")
        assert isinstance(app.screen, Page)

    play(scenario, known=KNOWN)


def test_what_may_be_meant_is_shown_and_taken_by_tab() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("colon", "j")
        await pilot.pause()
        assert "jobs  job" in screens.text(app)
        await pilot.press("o", "b", "space", "tab")
        assert app.screen.query_one(Input).value == "job fix-login 4f9h2k7m"
        await pilot.press("x", "tab")
        assert isinstance(app.screen, JumpLine)
        assert app.screen.query_one(Input).value == "job fix-login 4f9h2k7mx"

    play(scenario, known=KNOWN)
