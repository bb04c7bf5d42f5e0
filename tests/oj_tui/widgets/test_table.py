from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.events import MouseScrollDown
from textual.message import Message
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import Input

import oj_tui
from oj_daemon.wire.text import width
from oj_tui.store import View
from oj_tui.widgets.table import HEADING, Column, Table, fit
from tests.support import screens

COLUMNS = (
    Column("ID  ", 4, 4),
    Column("NAME", 6, 20),
    Column("WHY", 6, 200, rank=1, takes_rest=True),
)


class Watched(Table):
    """Writes down which of its lines are drawn."""

    lines_drawn: list[int]

    def render_line(self, y: int) -> Strip:
        """As ever."""
        self.lines_drawn.append(y)
        return super().render_line(y)


class OneTable(App[None]):
    """A table and nothing else; what it tells is written down."""

    CSS_PATH: ClassVar = Path(oj_tui.__file__).parent / "oj.tcss"

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Message] = []
        self.lines_drawn: list[int] = []
        self.made: list[str] = []
        """Ids of the rows that were made."""

    def compose(self) -> ComposeResult:
        """The table."""
        table = Watched(COLUMNS, self._cells, empty="nothing here")
        table.lines_drawn = self.lines_drawn
        yield table
        yield Input()

    def _cells(self, item: View) -> list[tuple[str, str]]:
        self.made.append(item["id"])
        return [(item["id"], "muted"), (item["name"], ""), (item.get("why", ""), "bad")]

    @property
    def table(self) -> Table:
        """The table."""
        return self.query_one(Table)

    def on_mount(self) -> None:
        """Keys go to the table."""
        self.query_one(Input).styles.display = "none"
        self.table.focus()

    def on_table_opened(self, message: Table.Opened) -> None:
        """Write down."""
        self.told.append(message)

    def on_table_title_clicked(self, message: Table.TitleClicked) -> None:
        """Write down."""
        self.told.append(message)

    def on_table_left(self, message: Table.Left) -> None:
        """Write down."""
        self.told.append(message)


def rows(count: int) -> list[View]:
    """This many."""
    return [{"id": f"r{at}", "name": f"name {at}"} for at in range(count)]


def play(
    scenario: Callable[[OneTable, Pilot[None]], Awaitable[None]], size: tuple[int, int] = (40, 10)
) -> None:
    """Run a scenario with a table of this size."""

    async def run() -> None:
        app = OneTable()
        async with app.run_test(size=size, tooltips=True) as pilot:
            await scenario(app, pilot)

    asyncio.run(run())


def shown(app: OneTable) -> list[str]:
    """The lines of the table, without the scroll bar."""
    return [line[: app.table.size.width].rstrip() for line in screens.lines(app)]


# Widths


def test_columns_take_what_they_need_and_the_last_what_is_left() -> None:
    assert fit(COLUMNS, [4, 10, 5], 40) == [4, 10, 22]


def test_where_there_is_too_little_room_the_least_important_column_gives_first() -> None:
    assert fit(COLUMNS, [4, 20, 50], 40) == [4, 20, 12]
    assert fit(COLUMNS, [4, 20, 50], 30) == [4, 16, 6]


def test_a_long_last_column_does_not_press_the_others_together() -> None:
    columns = (
        Column("NAME", 4, 20, rank=2),
        Column("WHY", 6, 200, rank=1, takes_rest=True),
        Column("STEP", 4, 20),
    )
    assert fit(columns, [20, 100, 10], 60) == [20, 26, 10]
    assert fit(columns, [20, 100, 10], 46) == [14, 18, 10]
    assert fit(columns, [20, 100, 10], 30) == [4, 12, 10]
    assert fit(columns, [20, 100, 10], 20) == [4, 6, 6]


def test_a_column_that_cannot_be_of_use_any_more_is_left_out() -> None:
    assert fit(COLUMNS, [4, 20, 50], 19) == [4, 13, 0]
    assert fit(COLUMNS, [4, 20, 50], 3) == [0, 3, 0]


def test_columns_never_take_more_than_there_is() -> None:
    columns = (
        Column("A", 8, 8),
        Column("B", 8, 30),
        Column("C", 6, 20, rank=4),
        Column("D", 4, 6, rank=1),
        Column("E", 10, 200, rank=3, takes_rest=True),
    )
    for room in range(200):
        widths = fit(columns, [8, 30, 20, 6, 120], room)
        kept = [each for each in widths if each]
        assert sum(kept) + 2 * max(0, len(kept) - 1) <= room
        if room >= 42:
            assert sum(kept) + 2 * max(0, len(kept) - 1) == room, room


def test_text_that_takes_two_columns_a_character_keeps_the_columns_in_line() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(
            [
                {"id": "r0", "name": "ascii", "why": "one"},
                {"id": "r1", "name": "日本語のとても長い名前です", "why": "two"},
                {"id": "r2", "name": "e\u0301te\u0301", "why": "three"},
            ]
        )
        await pilot.pause()
        lines = shown(app)
        assert [width(line[: line.index(word)]) for line, word in zip(
            lines[1:4], ("one", "two", "three"), strict=True
        )] == [28, 28, 28]  # fmt: skip
        assert "日本語のとても長い…" in lines[2]

    play(scenario)


def test_columns_do_not_jump_while_one_walks_through_the_rows() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        items = rows(30)
        items[0]["name"] = "a name so very long"
        for item in items:
            item["why"] = "because"
        app.table.fill(items)
        await pilot.press("G")
        assert shown(app)[1].index("because") == shown(app)[0].index("WHY") == 27
        app.table.fill(rows(3))
        await pilot.pause()
        assert shown(app)[0].index("WHY") == 14

    play(scenario)


# Rows


def test_only_rows_in_sight_are_made() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(1000))
        await pilot.pause()
        assert set(app.made) == {f"r{at}" for at in range(10)}
        app.made.clear()
        await pilot.press("j")
        assert app.made == []

    play(scenario)


def test_only_lines_that_changed_are_drawn_anew() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        async def drawn_by(items: list[View]) -> list[int]:
            app.lines_drawn.clear()
            app.table.fill(items)
            await pilot.pause()
            return app.lines_drawn[:]

        await drawn_by(rows(30))
        assert await drawn_by(rows(30)) == []
        assert await drawn_by([{**item, "why": "x"} for item in rows(30)[:1]] + rows(30)[1:]) == [1]
        app.lines_drawn.clear()
        await pilot.press("j")
        assert app.lines_drawn == [1, 2]
        app.lines_drawn.clear()
        app.table.sorted_by = ("NAME", False)
        assert await drawn_by(rows(30)) == list(range(10))

    play(scenario)


def test_after_scrolling_lines_are_drawn_even_if_they_are_what_they_once_were() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(60))
        await pilot.pause()
        app.table.scroll_to(y=20, animate=False)
        await pilot.pause()
        app.table.fill([*rows(60)[40:], *rows(40)])
        await pilot.pause()
        assert shown(app)[1] == "r0    name 0"

    play(scenario)


def test_a_table_without_rows_says_so() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        await pilot.press("j", "k", "G", "g", "enter", "pagedown")
        assert shown(app)[1] == "nothing here"
        assert app.table.key is None
        assert not [each for each in app.told if isinstance(each, Table.Opened)]

    play(scenario)


def test_the_cursor_stays_with_its_row_when_rows_move() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(30))
        await pilot.press("j", "j")
        assert app.table.key == "r2"
        app.table.fill([{"id": "new", "name": "new"}, *rows(30)])
        assert app.table.key == "r2"

    play(scenario)


def test_a_row_that_moves_out_of_sight_takes_the_view_along() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(30))
        await pilot.press("j", "j")
        app.table.fill([*rows(30)[3:], *rows(3)])
        await pilot.pause()
        assert shown(app)[-1] == "r2    name 2"

    play(scenario)


def test_a_view_that_was_scrolled_away_from_the_cursor_stays() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(100))
        await pilot.pause()
        app.table.scroll_to(y=50, animate=False)
        await pilot.pause()
        app.table.fill(rows(100))
        await pilot.pause()
        assert shown(app)[1] == "r50   name 50"

    play(scenario)


def test_when_its_row_is_gone_the_cursor_stays_where_it_is() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(5))
        await pilot.press("j", "j")
        app.table.fill([item for item in rows(5) if item["id"] != "r2"])
        assert app.table.key == "r3"
        app.table.fill(rows(1))
        assert app.table.key == "r0"
        app.table.fill([])
        assert app.table.key is None

    play(scenario)


# Scrolling


def test_the_titles_stay_and_the_last_row_can_be_reached() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(100))
        await pilot.press("G")
        assert shown(app)[0].startswith("ID")
        assert shown(app)[1] == "r91   name 91"
        assert shown(app)[-1] == "r99   name 99"
        await pilot.press("g")
        assert shown(app)[1] == "r0    name 0"

    play(scenario)


def test_pages_are_as_long_as_what_is_in_sight() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(100))
        await pilot.press("pagedown")
        assert app.table.key == "r8"
        await pilot.press("pagedown", "pageup")
        assert app.table.key == "r8"

    play(scenario)


def test_the_wheel_scrolls_and_leaves_the_cursor() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(100))
        await pilot.pause()
        await pilot._post_mouse_events([MouseScrollDown], app.table, offset=(5, 5))
        await pilot.pause()
        assert shown(app)[0].startswith("ID")
        assert shown(app)[1] != "r0    name 0"
        assert app.table.key == "r0"

    play(scenario)


def test_a_smaller_terminal_keeps_the_cursor_in_sight() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(100))
        await pilot.press(*["j"] * 8)
        await pilot.resize_terminal(20, 5)
        await pilot.pause()
        assert "r8    name 8" in shown(app)

    play(scenario)


def test_a_terminal_of_next_to_no_size_breaks_nothing() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(100))
        for size in ((20, 1), (1, 1), (3, 2), (40, 10)):
            await pilot.resize_terminal(*size)
            await pilot.press("j", "k", "G", "g")
        assert shown(app)[1] == "r0    name 0"

    play(scenario)


# Lines between


def sections() -> list[View]:
    """Two sections of two rows."""
    return [{"id": "a", HEADING: "First"}, *rows(2), {"id": "b", HEADING: "Second"}, *rows(4)[2:]]


def test_the_cursor_passes_over_lines_that_are_no_rows() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(sections())
        assert app.table.key == "r0"
        keys = []
        for _ in range(4):
            await pilot.press("j")
            keys.append(app.table.key)
        assert keys == ["r1", "r2", "r3", "r3"]
        await pilot.press("k", "k", "g")
        assert app.table.key == "r0"

    play(scenario)


def test_the_line_above_the_first_row_comes_into_sight_with_it() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill([*sections(), *({"id": f"x{at}", "name": ""} for at in range(20))])
        await pilot.press("G", "g")
        assert shown(app)[1] == "First"

    play(scenario)


def test_lines_alone_are_no_rows() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill([{"id": "a", HEADING: "First"}])
        await pilot.press("j", "enter", "k")
        assert app.table.key is None

    play(scenario)


def test_walking_on_beyond_an_end_is_told() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(2))
        await pilot.press("j", "j", "k", "k")
        assert [each.by for each in app.told if isinstance(each, Table.Left)] == [1, -1]

    play(scenario)


# Choosing


def test_enter_opens_the_row_under_the_cursor() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(3))
        await pilot.press("j", "enter")
        assert [each.key for each in app.told if isinstance(each, Table.Opened)] == ["r1"]

    play(scenario)


def test_a_click_selects_and_a_double_click_opens() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(100))
        await pilot.press("G")
        await pilot.click(app.table, offset=(3, 2))
        assert app.table.key == "r92"
        assert app.told == []
        await pilot.click(app.table, offset=(3, 4), times=2)
        assert [each.key for each in app.told if isinstance(each, Table.Opened)] == ["r94"]

    play(scenario)


def test_a_click_below_the_rows_or_on_a_line_between_them_does_nothing() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(sections())
        await pilot.click(app.table, offset=(3, 1), times=2)
        await pilot.click(app.table, offset=(3, 9), times=2)
        assert app.table.key == "r0"
        assert app.told == []

    play(scenario)


def test_a_click_on_a_title_tells_which() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.fill(rows(3))
        await pilot.click(app.table, offset=(7, 0))
        assert [each.title for each in app.told if isinstance(each, Table.TitleClicked)] == ["NAME"]

    play(scenario)


def test_what_the_rows_are_sorted_by_is_told_beside_the_title() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        app.table.sorted_by = ("NAME", True)
        app.table.fill(rows(3))
        await pilot.pause()
        assert shown(app)[0] == "ID    NAME ▼  WHY"

    play(scenario)


def test_text_that_was_cut_is_shown_whole_beside_the_pointer() -> None:
    async def scenario(app: OneTable, pilot: Pilot[None]) -> None:
        why = "[b]a reason that is[/b] far too long for this little table"
        app.table.fill([{"id": "r0", "name": "short", "why": why}])
        await pilot.hover(app.table, offset=(20, 1))
        assert str(app.table.tooltip) == why
        await pilot.hover(app.table, offset=(7, 1))
        assert app.table.tooltip is None

    play(scenario)
