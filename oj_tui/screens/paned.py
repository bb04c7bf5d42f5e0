"""A screen of several panes, one of which is a log.

Rule: knows that there are panes, and never what is in them.
"""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from oj_tui.screens.page import Page
from oj_tui.widgets.log_pane import LogPane
from oj_tui.widgets.panes import Panes


class PanedPage(Page):
    """A page that holds Panes, with a LogPane as the pane `log`."""

    AUTO_FOCUS = ""  # the panes know what is to have the focus
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "turn(1)", "Next pane"),
        Binding("shift+tab", "turn(-1)", "Pane before", show=False),
        Binding("slash", "search", "Search the log", show=False, priority=True),
    ]

    def on_resize(self) -> None:
        """What is broken into lines is broken elsewhere."""
        self.call_after_refresh(self.draw)

    def action_turn(self, by: int) -> None:
        """Go to the next pane."""
        self.query_one(Panes).turn(by)

    def action_pane(self, name: str) -> None:
        """Go to a pane."""
        self.query_one(Panes).show(name)

    def action_search(self) -> None:
        """Search the log, from wherever one is."""
        self.query_one(Panes).show("log")
        self.query_one(LogPane).action_search()
