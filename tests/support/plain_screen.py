"""A screen that shows an id and nothing else: what is opened in tests of what opens."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from oj_tui.screens.page import Page


class PlainScreen(Page):
    """Shows an id."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
    ]

    def __init__(self, id_: str, start: str = "") -> None:
        super().__init__()
        self.shows = id_
        self.start = start

    def body(self) -> ComposeResult:
        """The id."""
        yield Static(self.shows)

    def fill(self) -> None:
        """Nothing changes."""

    async def action_back(self) -> None:
        """As real ones."""
        await self.app.pop_screen()
