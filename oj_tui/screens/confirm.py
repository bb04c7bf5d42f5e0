"""A question before something is ended or removed.

Rule: nothing that cannot be undone happens without it. Enter does not say yes: a key pressed too often must not end a job.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from oj_tui.crash import Unbroken
from oj_tui.widgets.focus import take_focus


class Confirm(Unbroken, ModalScreen[bool]):
    """Asks; the result is whether to do it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str, consequence: str = "") -> None:
        super().__init__()
        self._question = question
        self._consequence = consequence

    def compose(self) -> ComposeResult:
        """The question and two answers."""
        with VerticalScroll(classes="dialog"):
            yield Static(self._question, markup=False, classes="question")
            if self._consequence:
                yield Static(self._consequence, markup=False)
            with Horizontal(classes="buttons"):
                yield Button("No (n)", id="no")
                yield Button("Yes (y)", id="yes", variant="error")

    def on_mount(self) -> None:
        """What Enter presses is No."""
        take_focus(self.query_one("#no", Button))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """A click answers."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, is_yes: bool) -> None:
        """A key answers."""
        self.dismiss(is_yes)
