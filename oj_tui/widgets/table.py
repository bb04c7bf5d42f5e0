"""A list of rows under headings, of which only those in sight are ever made.

Rule: knows rows and text, never what they mean. DataTable of the library keeps every cell: filling it anew with 1,000 rows took
MEASURE; here that costs nothing until a row comes into sight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

import msgspec
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from oj_daemon.wire import picture
from oj_daemon.wire.text import cut, width
from oj_tui.store import View

Piece = tuple[str, str]
GAP: Final = 2


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


class Table(ScrollView, can_focus=True):
    """Rows that can be walked through, and opened."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--heading",
        "table--cursor",
        *(f"style--{name or 'plain'}" for name in picture.STYLES),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "go(0)", "First", show=False),
        Binding("end,G", "go(-1)", "Last", show=False),
        Binding("enter", "open", "Open"),
    ]

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
        self._cursor = 0
        self._widths: list[int] = []
        self.empty = empty
        """What is said when there is no row."""
        self.sorted_by: tuple[str, bool] | None = None
        """Title of the column that the rows are sorted by, and whether downwards; shown in the heading."""

    # What it holds

    @property
    def key(self) -> str | None:
        """`id` of the row under the cursor."""
        return str(self._items[self._cursor]["id"]) if self._items else None

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._items)

    def fill(self, items: Sequence[View]) -> None:
        """Show these rows; the cursor stays with the row it was on."""
        before = self.key
        self._items = list(items)
        at = next((at for at, item in enumerate(self._items) if item["id"] == before), None)
        self._cursor = min(self._cursor, max(0, len(self._items) - 1)) if at is None else at
        self._measure()
        self.refresh()

    def select(self, key: str) -> None:
        """Put the cursor on a row."""
        for at, item in enumerate(self._items):
            if item["id"] == key:
                self._go(at)

    def _measure(self) -> None:
        """Give each column its room, by what is in sight."""
        room = self.size.width
        self.virtual_size = Size(room, len(self._items) + 1)
        top = max(0, int(self.scroll_offset.y))
        shown = [self._cells(item) for item in self._items[top : top + max(1, self.size.height)]]
        wanted = []
        for at, column in enumerate(self._columns):
            widest = max((width(row[at][0]) for row in shown), default=0)
            wanted.append(min(max(widest, width(column.title)), column.most))
        left_out: set[int] = set()
        for at in sorted(range(len(wanted)), key=lambda at: -self._columns[at].rank):
            least = [
                min(wanted[i], self._columns[i].least)
                for i in range(len(wanted))
                if i not in left_out
            ]
            if sum(least) + GAP * (len(least) - 1) <= room or len(least) == 1:
                break
            left_out.add(at)
        kept = [at for at in range(len(wanted)) if at not in left_out]
        excess = sum(wanted[at] for at in kept) + GAP * (len(kept) - 1) - room
        for at in sorted(kept, key=lambda at: -self._columns[at].rank):
            if excess > 0:
                give = min(excess, max(0, wanted[at] - self._columns[at].least))
                wanted[at] -= give
                excess -= give
        rest = next((at for at in kept if self._columns[at].takes_rest), None)
        if rest is not None and excess < 0:
            wanted[rest] -= excess
        self._widths = [0 if at in left_out else wanted[at] for at in range(len(wanted))]

    # What it shows

    def on_resize(self, _event: events.Resize) -> None:
        """Another width, other columns."""
        self._measure()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The heading stays on top; below it the rows in sight."""
        if y == 0:
            return self._line(self._headings(), self.get_component_rich_style("table--heading"))
        at = y - 1 + int(self.scroll_offset.y)
        if at >= len(self._items):
            if at == 0 and self.empty:
                style = self.get_component_rich_style("style--muted")
                return Strip([Segment(cut(self.empty, self.size.width), style)]).adjust_cell_length(
                    self.size.width, self.rich_style
                )
            return Strip.blank(self.size.width, self.rich_style)
        is_cursor = at == self._cursor
        base = self.get_component_rich_style("table--cursor") if is_cursor else self.rich_style
        return self._line(self._cells(self._items[at]), base, is_cursor=is_cursor)

    def _headings(self) -> list[Piece]:
        by, is_down = self.sorted_by or ("", False)
        return [
            (
                f"{column.title} {'▼' if is_down else '▲'}" if column.title == by else column.title,
                "",
            )
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
            style = base
            if name and not is_cursor:
                style = base + self.get_component_rich_style(f"style--{name}", partial=True)
            segments.append(Segment(gap + shown if column.right else shown + gap, style))
        return Strip(segments).adjust_cell_length(self.size.width, base)

    # Moving

    def action_move(self, by: int) -> None:
        """Walk."""
        self._go(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Walk by as much as is in sight."""
        self._go(self._cursor + by * max(1, self.size.height - 2))

    def action_go(self, to: int) -> None:
        """Jump to an end."""
        self._go(len(self._items) - 1 if to < 0 else to)

    def action_open(self) -> None:
        """Choose the row under the cursor."""
        if self.key is not None:
            self.post_message(self.Opened(self, self.key))

    def on_click(self, event: events.Click) -> None:
        """A click selects; a second one opens."""
        at = event.y - 1 + int(self.scroll_offset.y)
        if event.y == 0 or at >= len(self._items):
            return
        if at == self._cursor and event.chain > 1:
            self.action_open()
        self._go(at)

    def _go(self, to: int) -> None:
        self._cursor = min(max(to, 0), max(0, len(self._items) - 1))
        # The heading takes the first line of what is in sight, so a row needs one line more above it.
        self.scroll_to_region(Region(0, self._cursor, 1, 2), animate=False, force=True)
        self._measure()
        self.refresh()
