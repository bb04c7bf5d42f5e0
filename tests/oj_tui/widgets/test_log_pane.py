from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.app import App, ComposeResult
from textual.events import MouseScrollUp
from textual.pilot import Pilot

import oj_tui
from oj_tui.widgets.log_pane import CUT_SHORT, LogLines, LogPane, marked
from tests.support import screens


class Shown(App[None]):
    """A log and nothing else."""

    CSS_PATH = Path(oj_tui.__file__).parent / "oj.tcss"

    def __init__(self) -> None:
        super().__init__()
        self.pane = LogPane(most=1000, empty="nothing was written yet")

    def compose(self) -> ComposeResult:
        yield self.pane


def see(scenario: Callable[[Shown, Pilot[Any]], Awaitable[None]]) -> None:
    async def run() -> None:
        app = Shown()
        async with app.run_test(size=(40, 12)) as pilot:
            app.query_one(LogLines).focus()
            await pilot.pause()
            await scenario(app, pilot)

    asyncio.run(run())


def seen(app: Shown) -> list[str]:
    """Without the scroll bar."""
    return [line[:30].rstrip() for line in screens.lines(app)[:11]]


def numbered(start: int, end: int) -> str:
    return "".join(f"line {at}\n" for at in range(start, end))


def test_an_empty_log_says_so() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        await pilot.pause()
        assert screens.lines(app)[0] == "nothing was written yet"

    see(scenario)


def test_the_end_is_followed_until_one_scrolls_up_and_again_when_one_asks() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        app.pane.add(numbered(0, 50))
        await pilot.pause()
        assert screens.lines(app)[10:] == ["line 49", "following the end  ·  50 lines"]
        await pilot.press("up")
        app.pane.add(numbered(50, 60))
        await pilot.pause()
        assert screens.lines(app)[10:] == [
            "line 48",
            "11 lines below: End follows  ·  60 lines",
        ]
        await pilot.press("G")
        app.pane.add(numbered(60, 70))
        await pilot.pause()
        assert screens.lines(app)[10] == "line 69"

    see(scenario)


def test_the_mouse_wheel_scrolls_and_back_at_the_end_it_is_followed() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        app.pane.add(numbered(0, 50))
        await pilot.pause()
        lines = app.query_one(LogLines)
        lines.post_message(
            MouseScrollUp(lines, 1, 1, 0, -1, 0, shift=False, meta=False, ctrl=False)
        )
        await pilot.pause()
        assert not app.pane.follows
        await pilot.press("pagedown")
        assert app.pane.follows

    see(scenario)


def test_what_is_read_stays_in_place_when_old_lines_are_dropped() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        app.pane.add(numbered(0, 1000))
        await pilot.pause()
        await pilot.press("up", "up", "up")
        before = seen(app)
        app.pane.add(numbered(1000, 1100))
        await pilot.pause()
        assert seen(app) == before

    see(scenario)


def test_lines_are_searched_from_the_newest_up() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        app.pane.add(numbered(0, 100))
        await pilot.pause()
        await pilot.press("slash", *"line 7", "enter")
        assert app.pane.state.endswith("'line 7' in 11 of 11 lines: n, N")
        assert any(line == "line 79" for line in screens.lines(app))
        await pilot.press("n")
        assert app.pane.state.endswith("'line 7' in 1 of 11 lines: n, N")
        await pilot.press("N", "N")
        assert app.pane.state.endswith("'line 7' in 10 of 11 lines: n, N")
        app.pane.add("line 777\n")
        assert app.pane.state.endswith("'line 7' in 10 of 12 lines: n, N")
        assert app.pane.leave()
        assert not app.pane.leave()

    see(scenario)


def test_what_was_found_is_marked() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        app.pane.add("one two one\n")
        app.pane.search("one")
        await pilot.pause()
        segments = list(app.query_one(LogLines).render_line(0))
        assert [each.text for each in segments][:3] == ["one", " two ", "one"]
        styles = [each.style for each in segments]
        assert styles[0] == styles[2] != styles[1]

    see(scenario)


def test_long_lines_go_on_to_the_right_or_are_wrapped() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        app.pane.add("0123456789" * 5 + "\nshort\n")
        await pilot.pause()
        await pilot.press("right")
        assert screens.lines(app)[0] == ("0123456789" * 5)[8:48]
        assert "from column 9" in app.pane.state
        await pilot.press("w")
        assert screens.lines(app)[:3] == ["0123456789" * 4, "0123456789", "short"]
        await pilot.resize_terminal(25, 12)
        await pilot.pause()
        assert screens.lines(app)[:3] == [("0123456789" * 5)[:25], ("0123456789" * 5)[25:], "short"]
        app.pane.add("more\n")
        await pilot.pause()
        assert screens.lines(app)[3] == "more"

    see(scenario)


def test_pieces_are_joined_and_a_log_that_was_cut_short_says_so() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        app.pane.add("first\nhal")
        await pilot.pause()
        assert screens.lines(app)[:2] == ["first", "hal"]
        app.pane.add("f\nunfin")
        app.pane.add("anew\n", restarted=True)
        await pilot.resize_terminal(70, 12)
        await pilot.pause()
        assert screens.lines(app)[:4] == ["first", "half", CUT_SHORT, "anew"]

    see(scenario)


def test_adding_draws_nothing_that_is_not_in_sight() -> None:
    async def scenario(app: Shown, pilot: Pilot[Any]) -> None:
        shaped: list[str] = []

        def shape(line: str) -> list[tuple[str, str]]:
            shaped.append(line)
            return [(line, "")]

        app.pane = LogPane(shape, most=1000)
        await app.query(LogPane).remove()
        await app.mount(app.pane)
        await pilot.pause()
        for at in range(0, 100_000, 1000):
            app.pane.add(numbered(at, at + 1000))
        await pilot.pause()
        assert 0 < len(shaped) < 500
        assert screens.lines(app)[10] == "line 99999"

    see(scenario)


def test_pieces_break_where_something_found_begins_or_ends() -> None:
    assert marked([("abc", "x"), ("def", "y")], [(2, 4)]) == [
        ("ab", "x", False),
        ("c", "x", True),
        ("d", "y", True),
        ("ef", "y", False),
    ]
