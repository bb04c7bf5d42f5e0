from __future__ import annotations

import pytest
from textual.pilot import Pilot

from oj_tui.app import OjApp
from oj_tui.screens.confirm import Confirm
from tests.support import screens
from tests.support.fake_feed import FakeFeed
from tests.support.live_view import play

ANSWERS: list[tuple[list[str], bool]] = [
    (["y"], True),
    (["n"], False),
    (["escape"], False),
    (["q"], False),
    (["enter"], False),
    (["tab", "enter"], True),
]


@pytest.mark.parametrize(("keys", "expected"), ANSWERS)
def test_only_a_clear_yes_is_one(keys: list[str], expected: bool) -> None:
    answers: list[bool | None] = []

    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await app.push_screen(Confirm("Cancel it?"), answers.append)
        await pilot.press(*keys)
        await pilot.pause()
        assert answers == [expected]

    play(scenario, known={})


@pytest.mark.parametrize(("button", "expected"), [("#yes", True), ("#no", False)])
def test_a_click_answers(button: str, expected: bool) -> None:
    answers: list[bool | None] = []

    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await app.push_screen(Confirm("Cancel it?"), answers.append)
        await pilot.click(button)
        await pilot.pause()
        assert answers == [expected]

    play(scenario, known={})


def test_it_tells_what_will_happen_and_text_of_others_is_no_markup() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await app.push_screen(Confirm("Cancel [b]x[/b]?", "Its agents are ended."))
        await pilot.pause()
        screens.compare(app, "confirm")

    play(scenario, known={})
