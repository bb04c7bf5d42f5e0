"""Lines of styled text, which can be walked through where that leads anywhere.

Rule: knows rows and their keys, never what they mean. Rows with an empty key only stand there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from oj_tui.widgets.walk import KEYS, STYLE_CLASSES

Line = list[tuple[str, str]]
Row = tuple[str, Line]
"""Key, and pieces with their styles."""


class Rows(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows; those that have a key can be opened."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rows--cursor",
        *STYLE_CLASSES,
    }
    BINDINGS: ClassVar[list[BindingType]] = list(KEYS)

    class Opened(Message):
        """A row was chosen."""

        def __init__(self, rows: Rows, key: str) -> None:
            super().__init__()
            self.rows = rows
            self.key = key

        @property
        def control(self) -> Rows:
            """Whose row it is."""
            return self.rows

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the library's word
        super().__init__(id=id)
        self._rows: list[Row] = []
        self._keyed: list[int] = []
        self._at = 0
        """Which of the keyed rows the cursor is on."""

    # What it holds

    @property
    def key(self) -> str:
        """Key of the row under the cursor; empty when there is none."""
        return self._rows[self._keyed[self._at]][0] if self._keyed else ""

    def fill(self, rows: Sequence[Row]) -> None:
        """Show these; the cursor stays with its key."""
        size = Size(self.size.width, len(rows))
        if self._rows == rows and self.virtual_size == size:
            return
        before = self.key
        self._rows = list(rows)
        was_openable = bool(self._keyed)
        self._keyed = [at for at, (key, _) in enumerate(self._rows) if key]
        if bool(self._keyed) != was_openable:
            self.refresh_bindings()
        keys = [self._rows[at][0] for at in self._keyed]
        self._at = keys.index(before) if before in keys else min(self._at, max(0, len(keys) - 1))
        self.virtual_size = size
        self.refresh()

    def select(self, key: str) -> None:
        """Put the cursor on a row."""
        for at, row in enumerate(self._keyed):
            if self._rows[row][0] == key:
                self._go(at)

    def render_line(self, y: int) -> Strip:
        """A row in sight."""
        at = y + int(self.scroll_y)
        room = self.size.width
        if at >= len(self._rows):
            return Strip.blank(room, self.rich_style)
        is_cursor = bool(self._keyed) and at == self._keyed[self._at]
        base = self.get_component_rich_style("rows--cursor" if is_cursor else "style--plain")
        # Whole styles, as in Table: a share of the contrast to what is behind cannot be laid over another style.
        segments = [
            Segment(
                text,
                base if is_cursor else self.get_component_rich_style(f"style--{name or 'plain'}"),
            )
            for text, name in self._rows[at][1]
        ]
        strip = Strip(segments)
        if strip.cell_length > room > 0:
            strip = Strip([*strip.crop(0, room - 1), Segment("…", base)])
        return strip.adjust_cell_length(room, base)

    # Moving

    def action_move(self, by: int) -> None:
        """Walk from key to key; without keys, scroll."""
        if self._keyed:
            self._go(self._at + by)
        else:
            self._scroll(self.scroll_y + by)

    def action_page(self, by: int) -> None:
        """Go on by what is in sight."""
        step = by * max(1, self.size.height - 1)
        if self._keyed:
            self._go(self._at + step)
        else:
            self._scroll(self.scroll_y + step)

    def action_go(self, to: int) -> None:
        """Jump to an end."""
        if self._keyed:
            self._go(len(self._keyed) - 1 if to < 0 else to)
        else:
            self._scroll(self.max_scroll_y if to < 0 else 0)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where nothing has a key there is nothing to open, and the keys below do not say so."""
        return bool(self._keyed) if action == "open" else super().check_action(action, parameters)

    def action_open(self) -> None:
        """Choose the row under the cursor."""
        if self.key:
            self.post_message(self.Opened(self, self.key))

    def on_click(self, event: events.Click) -> None:
        """A click selects; a second one opens."""
        row = event.y + int(self.scroll_y)
        if row not in self._keyed:
            return
        at = self._keyed.index(row)
        if at == self._at and event.chain > 1:
            self.action_open()
        self._go(at)

    def _go(self, to: int) -> None:
        self._at = min(max(to, 0), max(0, len(self._keyed) - 1))
        if self._keyed:
            self.scroll_to_region(Region(0, self._keyed[self._at], 1, 1), animate=False, force=True)
        self.refresh()

    def _scroll(self, to: float) -> None:
        self.scroll_to(y=min(max(to, 0), self.max_scroll_y), animate=False, force=True)


class Facts(Rows, can_focus=False):
    """A few rows on top of a screen, as high as they are many."""

    def fill(self, rows: Sequence[Row]) -> None:
        """Show these."""
        super().fill(rows)
        self.styles.height = len(rows)
