"""A list of rows under headings, of which only those in sight are ever made.

Rule: knows rows and text, never what they mean. DataTable of the library keeps every cell: filled anew with 1,000 rows of 8
columns it took 160 ms of CPU until it was drawn; here a row costs nothing until it comes into sight, and the same took 5 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import ClassVar, Final

import msgspec
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from oj_daemon.wire.text import cut, width
from oj_tui.store import View
from oj_tui.widgets.walk import KEYS, STYLE_CLASSES

Piece = tuple[str, str]
GAP: Final = 2
FAIR: Final = 3
"""How many times its least room the column that takes the rest keeps before others give of theirs."""
HEADING: Final = "heading"
"""A row with this key is no row but a line of text above those that follow; the cursor passes over it."""


class Column(msgspec.Struct, frozen=True):
    """One column."""

    title: str
    least: int = 4
    """Columns of the terminal that it needs to be of use."""
    most: int = 40
    rank: int = 0
    """Columns with a higher rank go first when there is no room for all."""
    right: bool = False
    """Its text stands at the right."""
    takes_rest: bool = False
    """Room that nobody else needs is its own."""


def fit(columns: Sequence[Column], wanted: Sequence[int], room: int) -> list[int]:
    """How wide each column is; 0 for those that there is no room for."""
    kept = list(range(len(columns)))
    for at in sorted(kept, key=lambda at: -columns[at].rank):
        least = [min(wanted[i], columns[i].least) for i in kept]
        if sum(least) + GAP * (len(least) - 1) <= room or len(kept) == 1:
            break
        kept.remove(at)
    widths = [wanted[at] if at in kept else 0 for at in range(len(columns))]
    excess = sum(widths) + GAP * (len(kept) - 1) - room
    rest = next((at for at in kept if columns[at].takes_rest), None)
    # It is mostly longer than any terminal is wide: it must not press the others together before it is short itself.
    giving = [] if rest is None else [(rest, FAIR * columns[rest].least)]
    giving += [(at, columns[at].least) for at in sorted(kept, key=lambda at: -columns[at].rank)]
    for at, floor in giving:
        give = min(max(0, excess), max(0, widths[at] - floor))
        widths[at] -= give
        excess -= give
    if rest is not None and excess < 0:
        widths[rest] -= excess
    if excess > 0:  # one column, in less room than it needs
        widths[kept[0]] = max(0, room)
    return widths


class Table(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows that can be walked through, and opened."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--titles",
        "table--heading",
        "table--cursor",
        *STYLE_CLASSES,
    }
    BINDINGS: ClassVar[list[BindingType]] = list(KEYS)

    class Opened(Message):
        """A row was chosen."""

        def __init__(self, table: Table, key: str) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> Table:
            """Whose row it is."""
            return self.table

    class TitleClicked(Message):
        """The title of a column was clicked."""

        def __init__(self, table: Table, title: str) -> None:
            super().__init__()
            self.table = table
            self.title = title

        @property
        def control(self) -> Table:
            """Whose title it is."""
            return self.table

    class Left(Message):
        """Somebody walked on beyond the first row (`by` is -1) or the last (1)."""

        def __init__(self, table: Table, by: int) -> None:
            super().__init__()
            self.table = table
            self.by = by

        @property
        def control(self) -> Table:
            """Which one was left."""
            return self.table

    def __init__(
        self,
        columns: Sequence[Column],
        cells: Callable[[View], Sequence[Piece]],
        *,
        id: str | None = None,  # noqa: A002 - the library's word
        empty: str = "",
    ) -> None:
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._cells = cells
        self._items: list[View] = []
        self._made: dict[int, Sequence[Piece]] = {}
        """Rows that came into sight since they were given."""
        self._cursor = 0
        self._wanted: list[int] = []
        """How wide each column was at its widest: columns must not jump about while one walks through the rows."""
        self._widths = [0] * len(self._columns)
        self._drawn: list[object] = []
        """What each line was made of when it was drawn last; none where all lines are to be drawn."""
        self.empty = empty
        """What is said when there is no row."""
        self.sorted_by: tuple[str, bool] | None = None
        """Title of the column that the rows are sorted by, and whether downwards; shown beside it."""
        self._forget_widths()

    # What it holds

    @property
    def key(self) -> str | None:
        """`id` of the row under the cursor."""
        if self._cursor >= len(self._items) or HEADING in self._items[self._cursor]:
            return None
        return str(self._items[self._cursor]["id"])

    @property
    def count(self) -> int:
        """How many rows there are, lines between them included."""
        return len(self._items)

    def fill(self, items: Sequence[View]) -> None:
        """Show these rows; the cursor stays with the row it was on, and in sight if it was."""
        before = self.key
        was_in_sight = self._is_in_sight(self._cursor)
        if len(items) < len(self._items):
            self._forget_widths()
        self._items = list(items)
        self._made.clear()
        at = next(
            (at for at, item in enumerate(self._items) if item["id"] == before and before), None
        )
        self._cursor = self._landing(self._cursor, 1) if at is None else at
        self._measure()
        if was_in_sight and not self._is_in_sight(self._cursor):
            self._scroll_to_cursor()
        self._redraw()

    def _row(self, at: int) -> Sequence[Piece]:
        row = self._made.get(at)
        if row is None:
            row = self._made[at] = self._cells(self._items[at])
        return row

    # How wide its columns are

    def _forget_widths(self) -> None:
        self._wanted = [0] * len(self._columns)

    def _measure(self) -> None:
        """Give each column its room, by what is and was in sight."""
        lines = len(self._items) or int(bool(self.empty))
        self.virtual_size = Size(self.size.width, lines + 1)
        top = max(0, int(self.scroll_offset.y))
        in_sight = range(top, min(len(self._items), top + max(1, self.size.height)))
        rows = [self._row(at) for at in in_sight if HEADING not in self._items[at]]
        for row in [self._titles(), *rows]:
            for index, (text, _) in enumerate(row):
                widest = self._columns[index].most
                if self._wanted[index] < widest:
                    self._wanted[index] = max(self._wanted[index], min(width(text), widest))
        self._widths = fit(self._columns, self._wanted, self.size.width)

    def on_resize(self, _event: events.Resize) -> None:
        """Another width, other columns."""
        self._forget_widths()
        was_in_sight = self._is_in_sight(self._cursor)
        self._measure()
        if not was_in_sight:
            self._scroll_to_cursor()
        self._drawn = []
        self._redraw()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other rows are in sight, which may need other columns."""
        super().watch_scroll_y(old_value, new_value)
        self._drawn = []
        self._measure()

    # What it shows

    def _redraw(self) -> None:
        """Draw those lines anew that are not what they were: mostly none or two."""
        lines: list[object] = [(self._titles(), self._widths, self.empty)]
        top = int(self.scroll_offset.y)
        for at in range(top, min(len(self._items), top + max(0, self.size.height - 1))):
            heading = self._items[at].get(HEADING)
            lines.append((heading or self._row(at), at == self._cursor))
        before, self._drawn = self._drawn, lines
        if len(before) != len(lines) or before[0] != lines[0]:
            self.refresh()
            return
        changed = [y for y, line in enumerate(lines) if line != before[y]]
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        """The titles stay on top; below them the rows in sight."""
        if y == 0:
            return self._line(self._titles(), self.get_component_rich_style("table--titles"))
        at = y - 1 + int(self.scroll_offset.y)
        if at >= len(self._items):
            text = self.empty if at == 0 else ""
            return self._across(text, self.get_component_rich_style("style--muted"))
        item = self._items[at]
        if HEADING in item:
            return self._across(item[HEADING], self.get_component_rich_style("table--heading"))
        if at == self._cursor:
            base = self.get_component_rich_style("table--cursor")
            return self._line(self._row(at), base, is_cursor=True)
        return self._line(self._row(at), self.get_component_rich_style("style--plain"))

    def _across(self, text: str, style: Style) -> Strip:
        room = self.size.width
        return Strip([Segment(cut(text, room), style)]).adjust_cell_length(room, style)

    def _titles(self) -> list[Piece]:
        by, is_down = self.sorted_by or ("", False)
        sign = "▼" if is_down else "▲"
        return [
            (f"{column.title} {sign}" if column.title == by else column.title, "")
            for column in self._columns
        ]

    def _line(self, cells: Sequence[Piece], base: Style, *, is_cursor: bool = False) -> Strip:
        segments: list[Segment] = []
        for (text, name), column, room in zip(cells, self._columns, self._widths, strict=True):
            if not room:
                continue
            if segments:
                segments.append(Segment(" " * GAP, base))
            shown = cut(text, room)
            gap = " " * (room - width(shown))
            # Whole styles: those that are a share of the contrast to what is behind them cannot be laid over another one.
            is_plain = not name or is_cursor
            style = base if is_plain else self.get_component_rich_style(f"style--{name}")
            segments.append(Segment(gap + shown if column.right else shown + gap, style))
        return Strip(segments).adjust_cell_length(self.size.width, base)

    # Moving

    def action_move(self, by: int) -> None:
        """Walk."""
        before = self._cursor
        self._go(self._cursor + by, by)
        if self._cursor == before:
            self.post_message(self.Left(self, by))

    def action_page(self, by: int) -> None:
        """Walk by as much as is in sight."""
        self._go(self._cursor + by * max(1, self.size.height - 2), by)

    def action_go(self, to: int) -> None:
        """Jump to an end."""
        self._go(0 if to == 0 else len(self._items) - 1, 1 if to == 0 else -1)

    def action_open(self) -> None:
        """Choose the row under the cursor."""
        if self.key is not None:
            self.post_message(self.Opened(self, self.key))

    def on_click(self, event: events.Click) -> None:
        """A click selects; a second one opens. On a title: whoever shows the rows may sort them by it."""
        if event.y == 0:
            column = self._column_at(event.x)
            if column is not None:
                self.post_message(self.TitleClicked(self, self._columns[column].title))
            return
        at = event.y - 1 + int(self.scroll_offset.y)
        if at >= len(self._items) or HEADING in self._items[at]:
            return
        if at == self._cursor and event.chain > 1:
            self.action_open()
        self._go(at, 1)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Text that had to be cut is shown whole beside the pointer."""
        at = event.y - 1 + int(self.scroll_offset.y)
        column = self._column_at(event.x)
        text = ""
        if event.y > 0 and at < len(self._items) and HEADING not in self._items[at]:
            whole = self._row(at)[column][0] if column is not None else ""
            text = whole if column is not None and width(whole) > self._widths[column] else ""
        self.tooltip = Content(text) if text else None

    def _column_at(self, x: int) -> int | None:
        left = 0
        for index, room in enumerate(self._widths):
            if room and left <= x < left + room:
                return index
            left += room + GAP if room else 0
        return None

    def _landing(self, to: int, by: int) -> int:
        """The row that `to` stands for: the next one that the cursor may be on, in the direction of `by` if there is any."""
        last = len(self._items) - 1
        to = min(max(to, 0), last)
        onward, back = range(max(to, 0), last + 1), range(to, -1, -1)
        for at in chain(onward, back) if by > 0 else chain(back, onward):
            if HEADING not in self._items[at]:
                return at
        return 0

    def _go(self, to: int, by: int) -> None:
        self._cursor = self._landing(to, by)
        self._scroll_to_cursor()
        self._measure()
        self._redraw()

    def _is_in_sight(self, at: int) -> bool:
        top = int(self.scroll_offset.y)
        return top <= at < top + max(1, self.size.height - 1)

    def _scroll_to_cursor(self) -> None:
        # The titles take the first line of what is in sight, so a row needs one line more above it; and a line of text that
        # stands above the row is shown with it.
        has_heading = self._cursor > 0 and HEADING in self._items[self._cursor - 1]
        top = self._cursor - 1 if has_heading and self.size.height > 2 else self._cursor
        region = Region(0, top, 1, self._cursor - top + 2)
        self.scroll_to_region(region, animate=False, force=True, x_axis=False)
