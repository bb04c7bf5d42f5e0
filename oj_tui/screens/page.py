"""What all screens have in common: tabs on top, the state of the connection, keys below.

Rule: a screen draws from `app.store` when `draw` is called, and asks through `app.ask`; it keeps no copy of what the daemon
said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer, Input

from oj_tui.crash import Unbroken, survived
from oj_tui.jump import MODES
from oj_tui.widgets.bar import Banner, Tabs

if TYPE_CHECKING:
    from oj_tui.app import OjApp


TYPES: Final = frozenset({"filter", "search", "message", "own_words"})
"""Actions after which one types. Their keys are priority bindings: those are done before the next key is handed on, so that what
is typed or pasted at once does not become keys of the list."""


class Page(Unbroken, Screen[None]):
    """A screen of the app."""

    DIGITS: ClassVar = True
    """The digits lead to the modes; else they mean something here."""

    @property
    def oj(self) -> OjApp:
        """The app, by its own type."""
        app: OjApp = self.app  # type: ignore[assignment]  # no other app has these screens
        return app

    def compose(self) -> ComposeResult:
        """Tabs, what the screen is about, and its keys."""
        yield Tabs(MODES)
        yield Banner()
        yield from self.body()
        yield Footer(show_command_palette=False)  # it is told in the help: here is no room

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where something is typed, the key of a priority binding is a letter."""
        if action in TYPES and isinstance(self.focused, Input):
            return False
        return super().check_action(action, parameters)

    def body(self) -> ComposeResult:
        """What stands between."""
        raise NotImplementedError

    def on_screen_resume(self) -> None:
        """Draw anew when it comes to the front."""
        self.draw()

    def draw(self) -> None:
        """Draw what is known now: called after news, and every second for what grows old."""
        if not self.query(Tabs):  # it is not composed yet, or being taken down
            return
        waiting = len(self.oj.store.open_decisions())
        self.query_one(Tabs).draw(self.oj.current_mode, waiting, self.DIGITS)
        self.query_one(Banner).draw(self.oj.lost, is_filled=self.oj.store.is_filled)
        # The library's own part of coming to the front is done after ours, and only if ours did not fail.
        with survived(self):
            self.fill()

    def fill(self) -> None:
        """Put what is known into the widgets of the body."""
        raise NotImplementedError
