"""What to tell an agent that goes on."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from oj_tui.crash import Unbroken


class ResumeMessage(Unbroken, ModalScreen[str | None]):
    """Asks for a message; the result is empty for none, and None when the job is not to go on after all."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave it as it is")]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._job_title = title

    def compose(self) -> ComposeResult:
        """The question and a field."""
        with Vertical(classes="dialog"):
            yield Static(f"Resume {self._job_title}?", markup=False, classes="question")
            yield Input(placeholder="message for its agent, or nothing")
            yield Static("Enter resumes, Esc leaves it as it is", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter says yes."""
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        """Esc says no."""
        self.dismiss(None)
