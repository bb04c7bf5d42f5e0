"""One line at the bottom to write to somebody.

Rule: it is there only while something is asked; Enter gives what was written to the screen, Esc takes it away.
"""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from oj_tui.widgets.focus import take_focus


class MessageLine(Input):
    """A line to write on; the screen gets Input.Submitted, or Left when it was left with Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave", show=False)]

    class Left(Message):
        """Nothing is to be sent."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the library's word
        super().__init__(id=id, compact=True)
        self.display = False
        self._from: Widget | None = None

    def open(self, what: str) -> None:
        """Ask; `what` says for what, while nothing is written."""
        if not self.has_focus:
            self._from = self.screen.focused
        self.placeholder = what
        self.display = True
        take_focus(self)

    def close(self) -> None:
        """Go away, and give the keys back to who had them."""
        self.clear()
        self.display = False
        if self._from is not None and self._from.is_attached:
            take_focus(self._from)

    def on_paste(self, event: events.Paste) -> None:
        """A text of several lines becomes one: the library would take the first and drop the others."""
        event.prevent_default()
        event.stop()
        self.insert_text_at_cursor(" ".join(event.text.split()))

    def action_leave(self) -> None:
        """Esc."""
        self.close()
        self.post_message(self.Left())
