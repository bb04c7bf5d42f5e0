"""What a list is narrowed by.

Rule: it narrows while one types. Enter keeps it and goes back to the list; Esc takes it away.
"""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from oj_tui.widgets.focus import take_focus


class Filter(Input):
    """A line that is there while something is typed in it; the screen gets Input.Changed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "drop", "No filter", show=False),
        Binding("enter,down", "keep", "To the list", show=False),
    ]

    def __init__(self, back_to: type[Widget]) -> None:
        super().__init__(placeholder="words to look for", compact=True)
        self.display = False
        self._back_to = back_to

    def open(self) -> None:
        """Begin to type."""
        self.display = True
        take_focus(self)

    def on_blur(self, _event: events.Blur) -> None:
        """An empty one is not shown."""
        self.display = bool(self.value)

    def action_keep(self) -> None:
        """Enter."""
        take_focus(self.screen.query_one(self._back_to))

    def action_drop(self) -> None:
        """Esc, here or in the list."""
        self.value = ""
        self.display = False
        take_focus(self.screen.query_one(self._back_to))
