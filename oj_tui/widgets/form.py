"""Several questions on one page, answered together.

Rule: knows options and texts, never what they mean. It sends what was chosen as it is; whether that is an answer, the screen says.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Button, Input

from oj_tui.widgets.choices import Choice, Choices
from oj_tui.widgets.focus import take_focus
from oj_tui.widgets.lines import Lines, Piece


class Question(msgspec.Struct, frozen=True):
    """One of them."""

    title: Sequence[Piece]
    options: Sequence[Choice]
    several: bool
    other: int
    """The option that takes a text."""


class Form(Vertical):
    """Questions, and a button below them."""

    class Filled(Message):
        """It is to be sent: what was chosen for each question, and texts by the index of their question."""

        def __init__(self, choices: list[list[int]], texts: dict[int, str]) -> None:
            super().__init__()
            self.choices = choices
            self.texts = texts

    def __init__(self, questions: Sequence[Question]) -> None:
        super().__init__(classes="form")
        self._questions = list(questions)

    def compose(self) -> ComposeResult:
        """Each question with its options and a line for a text."""
        for question in self._questions:
            yield Lines(classes="question-title")
            yield Choices(question.options, marks=True, several=question.several)
            text = Input(placeholder="in your own words", compact=True)
            text.display = False
            yield text
        yield Button("Submit (Ctrl+S)", variant="primary")

    def on_mount(self) -> None:
        """Show what is asked."""
        for title, question in zip(self.query(".question-title"), self._questions, strict=True):
            if isinstance(title, Lines):
                title.put([question.title])

    def on_choices_chosen(self, message: Choices.Chosen) -> None:
        """Ask for the text that goes with an option."""
        message.stop()
        rows = zip(self.query(Choices), self.query(Input), self._questions, strict=True)
        for choices, text, question in rows:
            if choices is message.choices:
                text.display = question.other in choices.picked
                if text.display and message.number == question.other:
                    take_focus(text)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go on to what comes next."""
        event.stop()
        self.screen.focus_next()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Send it."""
        event.stop()
        self.submit()

    def submit(self) -> None:
        """Tell what was chosen."""
        choices = [sorted(each.picked) for each in self.query(Choices)]
        texts = {at: text.value for at, text in enumerate(self.query(Input)) if text.display}
        self.post_message(self.Filled(choices, texts))
