"""Several views of one thing: one at a time, or the first beside the others where there is room.

Rule: knows names and widgets. Tab walks through them, a click on a name goes there, and the focus goes along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from oj_tui.widgets.focus import take_focus

WIDE: Final = 110
"""Columns from which two panes stand side by side."""


class PaneBar(Static):
    """The names, the one that is shown marked."""

    class Chosen(Message):
        """A name was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.pane = name

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._ends: list[tuple[int, str]] = []

    def draw(self, labels: Mapping[str, str], current: str) -> None:
        """Show these labels."""
        line = Text(no_wrap=True, overflow="ellipsis")
        self._ends = []
        for name, label in labels.items():
            # Brackets and not only colour: what is marked has to be seen without colours, too.
            mark = ("[", "]") if name == current else (" ", " ")
            line.append(f"{mark[0]}{label}{mark[1]}", "bold reverse" if name == current else "")
            self._ends.append((line.cell_len, name))
        self.update(line)

    def on_click(self, event: events.Click) -> None:
        """Go to what was clicked."""
        for end, name in self._ends:
            if event.x < end:
                self.post_message(self.Chosen(name))
                return


class Panes(Vertical):
    """The panes; the first one is the one that stays where there is room for two."""

    class Shown(Message):
        """Another pane came to the front."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.pane = name

    def __init__(self, panes: Mapping[str, Widget], *, start: str, second: str) -> None:
        super().__init__()
        self._panes = dict(panes)
        self._first = next(iter(self._panes))
        self.current = start
        """Name of the pane that has the focus."""
        self._second = start if start != self._first else second
        """Name of the pane beside the first."""
        self._labels = {name: name.capitalize() for name in self._panes}

    def compose(self) -> ComposeResult:
        """Names above, panes below."""
        yield PaneBar()
        with Horizontal():
            yield from self._panes.values()

    def on_mount(self) -> None:
        """Show the one to start with."""
        self.show(self.current)

    def on_resize(self) -> None:
        """There may be room for two now."""
        self._place()

    def on_pane_bar_chosen(self, message: PaneBar.Chosen) -> None:
        """A click shows a pane."""
        message.stop()
        self.show(message.pane)

    @property
    def is_wide(self) -> bool:
        """Two panes stand side by side."""
        return self.size.width >= WIDE

    def is_shown(self, name: str) -> bool:
        """This pane is in sight."""
        return self._panes[name].display

    def label(self, name: str, count: int) -> None:
        """Tell how many there are."""
        label = f"{name.capitalize()} {count}" if count else name.capitalize()
        if self._labels[name] != label:
            self._labels[name] = label
            self._draw()

    def show(self, name: str) -> None:
        """Bring a pane to the front."""
        self.current = name
        if name != self._first:
            self._second = name
        self._place()
        pane = self._panes[name]
        target = pane if pane.can_focus else next((w for w in pane.query("*") if w.focusable), None)
        if target is not None:
            take_focus(target)
        self.post_message(self.Shown(name))

    def turn(self, by: int) -> None:
        """Go to the next pane, or the one before."""
        names = list(self._panes)
        self.show(names[(names.index(self.current) + by) % len(names)])

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """A click into a pane that stands beside the current one makes it the current one."""
        # Else only the current one is in sight, or the focus has moved on meanwhile.
        if not self.is_wide or event.widget is not self.screen.focused:
            return
        for name, pane in self._panes.items():
            if name != self.current and (event.widget is pane or pane in event.widget.ancestors):
                self.current = name
                self._draw()

    def _place(self) -> None:
        for name, pane in self._panes.items():
            is_beside = self.is_wide and name in (self._first, self._second)
            pane.display = is_beside or name == self.current
            pane.set_class(self.is_wide and name == self._first, "first-of-two")
        self._draw()

    def _draw(self) -> None:
        if self.is_attached:
            self.query_one(PaneBar).draw(self._labels, self.current)
