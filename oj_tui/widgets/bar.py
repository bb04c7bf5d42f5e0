"""The lines on top: where one is, and whether the daemon can be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.text import Text
from textual import events
from textual.widgets import Static

from oj_daemon.errors import OjError
from oj_daemon.wire.text import visible


class Tabs(Static):
    """The modes, the one that is shown marked; a click goes there."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(markup=False)
        self._names = names
        self._drawn: tuple[str, int, bool] = ("", 0, True)
        self._ends: list[tuple[int, str]] = []

    def draw(self, current: str, waiting: int, has_digits: bool = True) -> None:
        """Mark the current mode; `waiting` is how many decisions are open, and digits stand where they lead to the modes."""
        self._drawn = (current, waiting, has_digits)
        line = self._line(lambda name: name.capitalize())
        if line.cell_len > self.size.width:
            rest = "" if has_digits else "·"
            line = self._line(lambda name: name.capitalize() if name == current else rest)
        self.update(line)

    def _line(self, title_of: Callable[[str], str]) -> Text:
        current, waiting, has_digits = self._drawn
        line = Text(no_wrap=True, overflow="ellipsis")
        self._ends = []
        for number, name in enumerate(self._names, 1):
            count = f"({waiting})" if name == "decisions" and waiting else ""
            style = "reverse bold" if name == current else "bold" if count else ""
            words = " ".join(
                word for word in (str(number) if has_digits else "", title_of(name), count) if word
            )
            line.append(f" {words} ", style)
            self._ends.append((line.cell_len, name))
            line.append(" ")
        line.right_crop(1)
        return line

    def on_resize(self, _event: events.Resize) -> None:
        """Where there is no room for all names, only that of the current mode is written."""
        self.draw(*self._drawn)

    async def on_click(self, event: events.Click) -> None:
        """Go to the mode that was clicked."""
        for end, name in self._ends:
            if event.x < end:
                await self.run_action(f"app.mode('{name}')")
                return


class Banner(Static):
    """Says that the daemon cannot be asked; not there while it can."""

    def __init__(self) -> None:
        super().__init__(markup=False)
        self.display = False

    def draw(self, lost: OjError | None, *, is_filled: bool) -> None:
        """Show why the daemon cannot be asked, or that it has not answered yet."""
        self.display = lost is not None or not is_filled
        if lost is not None:
            # What to type comes first: the end is cut off where there is little room.
            hint = f" ({lost.hint})" if lost.hint else ""
            shown = "; shown is what was known" if is_filled else ""
            self.update(visible(f"looking for the daemon again{hint}{shown}: {lost.message}"))
        elif not is_filled:
            self.update("asking the daemon ...")
