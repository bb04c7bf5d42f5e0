"""Keys that are typed quicker than anything can be drawn, as a paste is: none of them goes astray."""

from __future__ import annotations

from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from oj_tui.app import OjApp
from tests.support.fake_feed import FakeFeed
from tests.support.live_view import play
from tests.support.replies import agent, summary


def burst(app: OjApp, text: str) -> None:
    """All keys at once, as the terminal hands them over."""
    names = {"/": "slash", ":": "colon", "-": "minus"}
    for char in text:
        app.post_message(events.Key(names.get(char, char), char))


@pytest.mark.parametrize("mode", ["jobs", "agents"])
def test_a_filter_is_typed_in_one_go(mode: str) -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        feed.answer("AgentList", lambda _: {"type": "Agents", "agents": [agent()], "total": 1})
        burst(app, "/no/thing:like-m")
        await pilot.pause()
        await pilot.pause()
        assert app.screen.query_one(Input).value == "no/thing:like-m"
        assert len(app.screen_stack) == 1

    known: dict[str, Any] = {"jobs": [summary()], "agents": [agent()]}
    play(scenario, known=known, start=mode)


def test_a_jump_is_typed_in_one_go() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        burst(app, ":agents")
        await pilot.pause()
        await pilot.pause()
        assert app.screen.query_one(Input).value == "agents"

    play(scenario, known={"jobs": [summary()]})
