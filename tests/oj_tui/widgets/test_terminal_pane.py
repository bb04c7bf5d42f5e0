"""Tests of oj_tui/widgets/terminal_pane.py."""

from __future__ import annotations

import asyncio

from textual.app import App, ComposeResult

from oj_tui.widgets.terminal_pane import TerminalPane
from tests.support import screens


class PaneApp(App[None]):
    def compose(self) -> ComposeResult:
        yield TerminalPane()

    @property
    def pane(self) -> TerminalPane:
        return self.query_one(TerminalPane)

    def put(self, *rows: str, columns: int = 20, is_live: bool = True) -> None:
        self.pane.put(rows, columns=columns, is_live=is_live)


def test_rows_come_in_colour_and_nothing_else_of_them_acts_on_the_terminal() -> None:
    async def scenario() -> None:
        app = PaneApp()
        async with app.run_test(size=(30, 4)) as pilot:
            app.put("a\x1b[31mred\x1b[0m\x1b[2J", "\x1b]0;title\x07\x1b[1;5Hx\ty\u202e")
            await pilot.pause()
            assert screens.lines(app) == ["ared^[[2J", "^[]0;title^G^[[1;5Hx y\\u202e", "", ""]
            red = next(each for each in app.pane.strip_of(0) if each.text == "red")
            assert red.style is not None
            assert red.style.color is not None
            assert red.style.color.number == 1

    asyncio.run(scenario())


def test_a_row_that_did_not_change_is_not_taken_apart_again() -> None:
    async def scenario() -> None:
        app = PaneApp()
        async with app.run_test(size=(30, 4)) as pilot:
            app.put("same", "old")
            await pilot.pause()
            same, old = app.pane.strip_of(0), app.pane.strip_of(1)
            app.put("same", "new", "more")
            await pilot.pause()
            assert app.pane.strip_of(0) is same
            assert app.pane.strip_of(1) is not old
            assert screens.lines(app) == ["same", "new", "more", ""]

    asyncio.run(scenario())


def test_the_end_stays_in_sight_when_there_is_less_room() -> None:
    async def scenario() -> None:
        app = PaneApp()
        async with app.run_test(size=(30, 8)) as pilot:
            app.put(*(f"row {at}" for at in range(6)))
            await pilot.pause()
            await pilot.resize_terminal(30, 3)
            await pilot.pause()
            assert [line[:5] for line in screens.lines(app)] == ["row 3", "row 4", "row 5"]
            app.pane.scroll_relative(y=-1, animate=False)
            await pilot.pause()
            await pilot.resize_terminal(30, 2)
            await pilot.pause()
            assert [line[:5] for line in screens.lines(app)] == ["row 2", "row 3"]

    asyncio.run(scenario())


def test_a_terminal_that_is_live_no_more_is_dimmed() -> None:
    async def scenario() -> None:
        app = PaneApp()
        async with app.run_test(size=(30, 4)) as pilot:
            app.put("text")
            await pilot.pause()
            assert not any(each.style and each.style.dim for each in app.pane.strip_of(0))
            app.put("text", is_live=False)
            await pilot.pause()
            assert all(each.style and each.style.dim for each in app.pane.strip_of(0))

    asyncio.run(scenario())


def test_the_end_stays_in_sight_until_somebody_scrolls_away_from_it() -> None:
    async def scenario() -> None:
        app = PaneApp()
        rows = [f"row {at}" for at in range(10)]
        async with app.run_test(size=(30, 4)) as pilot:
            app.pane.focus()
            app.put(*rows, "", "  ", "\x1b[0m")
            await pilot.pause()
            await pilot.pause()
            assert screens.lines(app)[-1].startswith("row 9")
            app.put(*rows, "row 10")
            await pilot.pause()
            await pilot.pause()
            assert screens.lines(app)[-1].startswith("row 10")
            await pilot.press("home")
            await pilot.pause()
            app.put(*rows, "row 10", "row 11")
            await pilot.pause()
            await pilot.pause()
            assert screens.lines(app)[0].startswith("row 0")

    asyncio.run(scenario())


def test_a_row_wider_than_the_room_is_cropped_and_can_be_scrolled_to() -> None:
    async def scenario() -> None:
        app = PaneApp()
        async with app.run_test(size=(10, 4)) as pilot:
            app.pane.focus()
            app.put("0123456789abcdef", columns=16)
            await pilot.pause()
            assert screens.lines(app)[0] == "0123456789"
            app.pane.scroll_to(x=6, animate=False, force=True)
            await pilot.pause()
            assert screens.lines(app)[0] == "6789abcdef"

    asyncio.run(scenario())
