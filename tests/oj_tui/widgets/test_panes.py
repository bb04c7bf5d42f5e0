from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.app import App, ComposeResult
from textual.events import DescendantFocus
from textual.pilot import Pilot

import oj_tui
from oj_tui.widgets.panes import Panes
from oj_tui.widgets.rows import Rows
from tests.support import screens


class Shown(App[None]):
    """Three panes and nothing else."""

    CSS_PATH = Path(oj_tui.__file__).parent / "oj.tcss"

    def compose(self) -> ComposeResult:
        names = ("one", "two", "three")
        yield Panes({name: Rows(id=name) for name in names}, start="one", second="two")

    def on_mount(self) -> None:
        for rows in self.query(Rows):
            keys = ("first", "second", "third")
            rows.fill([(key, [(f"{key} of {rows.id}", "")]) for key in keys])

    @property
    def panes(self) -> Panes:
        return self.query_one(Panes)


def see(
    scenario: Callable[[Shown, Pilot[Any]], Awaitable[None]], size: tuple[int, int] = (40, 6)
) -> None:
    async def run() -> None:
        app = Shown()
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await scenario(app, pilot)

    asyncio.run(run())


def test_one_pane_is_in_sight_and_has_the_focus() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        assert screens.lines(app)[:2] == ["[One] Two  Three", "first of one"]
        app.panes.show("three")
        await pilot.pause()
        assert screens.lines(app)[:2] == [" One  Two [Three]", "first of three"]
        assert app.focused is app.query_one("#three")

    see(scenario)


def test_the_first_stays_beside_the_others_where_there_is_room() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        await pilot.pause()
        assert screens.lines(app)[1].split() == ["first", "of", "one", "│first", "of", "two"]
        app.panes.show("three")
        await pilot.pause()
        assert screens.lines(app)[1].split() == ["first", "of", "one", "│first", "of", "three"]
        await pilot.click("#one", offset=(1, 1))
        assert app.panes.current == "one"
        assert app.query_one("#one", Rows).key == "second"

    see(scenario, (140, 6))


def test_news_of_a_focus_that_has_moved_on_change_nothing() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        app.panes.show("three")
        await pilot.pause()
        app.panes.on_descendant_focus(DescendantFocus(app.query_one("#two")))
        assert app.panes.current == "three"

    see(scenario, (140, 6))


def test_counts_are_told_with_the_names() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        app.panes.label("two", 7)
        await pilot.pause()
        assert screens.lines(app)[0] == "[One] Two 7  Three"
        app.panes.label("two", 0)
        await pilot.pause()
        assert screens.lines(app)[0] == "[One] Two  Three"

    see(scenario)


def test_rows_are_walked_through_and_stay_where_they_are_when_others_come() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        rows = app.query_one("#one", Rows)
        await pilot.press("j", "down", "k")
        assert rows.key == "second"
        rows.fill([("new", [("new", "")]), ("", [("-", "")]), ("second", [("second", "")])])
        assert rows.key == "second"
        await pilot.press("g")
        assert rows.key == "new"
        await pilot.press("down")
        assert rows.key == "second"
        rows.fill([("", [(f"{at}", "")]) for at in range(20)])
        await pilot.press("G")
        await pilot.pause()
        assert screens.lines(app)[5].split()[0] == "19"
        assert rows.key == ""

    see(scenario)


def test_a_row_that_is_too_long_says_so() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        app.query_one("#one", Rows).fill([("", [("x" * 30, "good"), ("y" * 30, "")])])
        await pilot.pause()
        assert screens.lines(app)[1] == "x" * 30 + "y" * 9 + "…"

    see(scenario)
