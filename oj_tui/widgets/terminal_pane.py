"""A terminal as somebody else's program left it: its rows in colour, cropped and scrolled to the room there is.

Rule: only colours of what the program wrote come through (oj_daemon/wire/text.py). A row is taken apart when it comes into sight,
and again only when it has changed: most of a terminal stays as it is from one look to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.ansi import AnsiDecoder
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from oj_daemon.wire.text import one_line, safe, visible

LONGEST: Final = 1000
"""Columns of a row that are shown."""
DIM: Final = Style(dim=True)


class TerminalPane(ScrollView, can_focus=True):
    """The rows of a terminal."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", "Up", show=False),
        Binding("j", "scroll_down", "Down", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the library's word
        super().__init__(id=id)
        self._rows: list[str] = []
        self._strips: list[Strip | None] = []
        self._is_live = True
        self._is_at_end = True
        """The last row is in sight, and stays there whatever room there is."""

    def put(self, rows: Sequence[str], *, columns: int, is_live: bool) -> None:
        """Show these rows, the last ones in sight if the last ones were; a terminal that is live no more is dimmed."""
        if is_live != self._is_live:
            self._is_live = is_live
            self._forget()
        now = list(rows)
        while now and not visible(now[-1]).strip():
            now.pop()
        before = self._rows
        kept = min(len(before), len(now))
        changed = [at for at in range(kept) if before[at] != now[at]]
        self._rows = now
        self._strips[kept:] = [None] * (len(now) - kept)
        for at in changed:
            self._strips[at] = None
            self.refresh_line(at)
        size = Size(min(columns, LONGEST), len(now))
        if len(before) != len(now) or size != self.virtual_size:
            self.virtual_size = size
            self.refresh()
            self._keep_end()

    def _keep_end(self) -> None:
        if self._is_at_end:
            self.call_after_refresh(self.scroll_end, animate=False, force=True)

    def on_resize(self) -> None:
        """Less room takes from the beginning."""
        self._keep_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whoever scrolls away from the end wants to read there."""
        super().watch_scroll_y(old_value, new_value)
        self._is_at_end = new_value >= self.max_scroll_y

    def strip_of(self, at: int) -> Strip:
        """A whole row in its colours."""
        strip = self._strips[at]
        if strip is None:
            text = AnsiDecoder().decode_line(safe(one_line(self._rows[at]), LONGEST, coloured=True))
            base = self.rich_style if self._is_live else self.rich_style + DIM
            pieces = Segment.apply_style(text.render(self.app.console), base)
            strip = self._strips[at] = Strip(pieces)
        return strip

    def render_line(self, y: int) -> Strip:
        """One row, as much of it as is in sight."""
        left, top = self.scroll_offset
        at = y + int(top)
        if at >= len(self._rows):
            return Strip.blank(self.size.width, self.rich_style)
        return self.strip_of(at).crop_extend(
            int(left), int(left) + self.size.width, self.rich_style
        )

    def notify_style_update(self) -> None:
        """Another theme, other colours."""
        super().notify_style_update()
        self._forget()

    def _forget(self) -> None:
        self._strips = [None] * len(self._rows)
        self.refresh()
