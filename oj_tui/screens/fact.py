"""One fact of a story, in full."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from oj_tui import render_job
from oj_tui.crash import Unbroken
from oj_tui.store import View
from oj_tui.widgets.rows import Rows


class FactScreen(Unbroken, ModalScreen[None]):
    """Shows it until it was read."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "dismiss", "Close")]

    def __init__(self, line: View) -> None:
        super().__init__()
        self._fact = line

    def compose(self) -> ComposeResult:
        """Its rows."""
        with Vertical(classes="dialog fact"):
            yield Rows()

    def on_resize(self) -> None:
        """Break it to the room there is."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        for rows in self.query(Rows):
            rows.fill(render_job.fact(self._fact, rows.size.width))
