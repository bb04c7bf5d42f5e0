"""Numbered options to choose from.

Rule: knows numbers and lines, never what they mean. Where one is chosen at once, Enter, a click or its number tell the screen;
where it is part of a form they only mark it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

import msgspec
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message

from oj_tui.widgets.focus import take_focus
from oj_tui.widgets.lines import Lines, Piece


class Choice(msgspec.Struct, frozen=True):
    """One option."""

    number: int
    lines: Sequence[Sequence[Piece]]
    """The first says what it is called."""
    is_alone: bool = False
    """Nothing else can be chosen with it."""


class Row(Lines):
    """An option; a click chooses it."""

    def __init__(self, number: int) -> None:
        super().__init__(classes="choice")
        self.number = number

    def on_click(self, event: events.Click) -> None:
        """Choose it."""
        event.stop()
        self.post_message(Choices.Clicked(self.number))


class Choices(Vertical, can_focus=True):
    """A list of options."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "walk(-1)", "Up", show=False),
        Binding("down,j", "walk(1)", "Down", show=False),
        Binding("enter", "take", "Choose", show=False),
        Binding("space", "choose", "Mark", show=False),
    ]

    class Clicked(Message):
        """A row was clicked."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    class Chosen(Message):
        """One was chosen, or marked."""

        def __init__(self, choices: Choices, number: int) -> None:
            super().__init__()
            self.choices = choices
            self.number = number

        @property
        def control(self) -> Choices:
            """Of which list."""
            return self.choices

    def __init__(
        self, options: Sequence[Choice], *, marks: bool = False, several: bool = False
    ) -> None:
        super().__init__(classes="choices")
        self._options = list(options)
        self._marks = marks
        self._several = several
        self._cursor = 0
        self.picked: set[int] = set()
        """What is marked."""

    def compose(self) -> ComposeResult:
        """A row for each."""
        for option in self._options:
            yield Row(option.number)

    def on_mount(self) -> None:
        """Show them."""
        self._draw()

    @property
    def numbers(self) -> Collection[int]:
        """What can be chosen."""
        return [option.number for option in self._options]

    def choose(self, number: int) -> None:
        """Choose, or mark, an option; one that is marked already is unmarked where several may be."""
        option = next((each for each in self._options if each.number == number), None)
        if option is None:
            return
        self._cursor = self._options.index(option)
        if self._marks:
            self._pick(option)
        self._draw()
        self.post_message(self.Chosen(self, number))

    def _pick(self, option: Choice) -> None:
        if self._several and option.number in self.picked:
            self.picked.discard(option.number)
        elif not self._several or option.is_alone:
            self.picked = {option.number}
        else:
            alone = {each.number for each in self._options if each.is_alone}
            self.picked = (self.picked - alone) | {option.number}

    def _draw(self) -> None:
        room = len(str(max((option.number for option in self._options), default=0)))
        # Where a key was quicker than the rows there are fewer of them; they are drawn when all are there.
        for at, (row, option) in enumerate(zip(self.query(Row), self._options, strict=False)):
            is_here = at == self._cursor and self.has_focus
            row.set_class(is_here, "choice--here")
            sign = "▸ " if is_here else "  "
            if self._marks:
                left, right = "[]" if self._several else "()"
                sign += f"{left}{'x' if option.number in self.picked else ' '}{right} "
            head = f"{sign}{option.number:>{room}}. "
            first, *others = option.lines
            indent = " " * len(head)
            row.put([[(head, "name"), *first], *([(indent, ""), *line] for line in others)])

    def watch_has_focus(self, has_focus: bool) -> None:
        """Show where one is, or that one is elsewhere."""
        super().watch_has_focus(has_focus)
        if self.is_mounted:
            self._draw()

    def on_choices_clicked(self, message: Clicked) -> None:
        """A click is a choice."""
        message.stop()
        take_focus(self)
        self.choose(message.number)

    def action_walk(self, by: int) -> None:
        """Go up or down; the row comes into sight."""
        self._cursor = min(max(self._cursor + by, 0), max(0, len(self._options) - 1))
        self._draw()
        rows = list(self.query(Row))
        if rows:
            rows[self._cursor].scroll_visible(animate=False)

    def action_choose(self) -> None:
        """Choose or mark the one under the cursor."""
        if self._options:
            self.choose(self._options[self._cursor].number)

    def action_take(self) -> None:
        """Choose the one under the cursor; in a form, mark it and go on to the next question."""
        if self._marks and self._options[self._cursor].number in self.picked:
            self.screen.focus_next()
            return
        self.action_choose()
        if self._marks and not self._several:
            self.screen.focus_next()
