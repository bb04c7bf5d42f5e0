"""The line that is typed after `:`.

Rule: it only asks where to; jump.py reads the line. A line that cannot be read stays, with the reason, until it is mended or
given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Input, Static

from oj_daemon.errors import OjError
from oj_tui import jump
from oj_tui.crash import Unbroken
from oj_tui.jump import Goal
from oj_tui.render import clean
from oj_tui.screens.open import open_by_id
from oj_tui.store import Store
from oj_tui.widgets.focus import take_focus

if TYPE_CHECKING:
    from oj_tui.app import OjApp


class Completions(Suggester):
    """Shows the likeliest completion behind what was typed."""

    def __init__(self, store: Store) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._store = store

    async def get_suggestion(self, value: str) -> str | None:
        """The first one that goes on from what was typed."""
        found = jump.complete(value, self._store) if value else []
        return next((each for each in found if each.startswith(value)), None)


class JumpLine(Unbroken, ModalScreen[Goal | None]):
    """Asks where to go; the result is the goal, or None when it was given up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("tab", "complete", "Complete", priority=True),
    ]

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def compose(self) -> ComposeResult:
        """Completions, or what is wrong; below it the line."""
        with Vertical(classes="bottom"):
            yield Static(" ".join(jump.complete("", self._store)), id="found", markup=False)
            with Horizontal(classes="line"):
                yield Static(":")
                yield Input(
                    placeholder="jobs, job ID, agents, decisions, daemon, q",
                    suggester=Completions(self._store),
                    compact=True,
                )

    def on_mount(self) -> None:
        """Type at once."""
        take_focus(self.query_one(Input))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what it may become."""
        self._say("  ".join(jump.complete(event.value, self._store)))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go there, or say why not."""
        try:
            goal = jump.read(event.value.removeprefix(":"), self._store)
        except OjError as error:
            self._say(f"✗ {error.message}: {error.hint}", is_error=True)
            return
        self.dismiss(goal)

    def action_complete(self) -> None:
        """Take the first completion."""
        line = self.query_one(Input)
        found = jump.complete(line.value, self._store)
        if found:
            line.value = found[0]
            line.cursor_position = len(line.value)

    def action_leave(self) -> None:
        """Stay where one is."""
        self.dismiss(None)

    def _say(self, text: str, *, is_error: bool = False) -> None:
        found = self.query_one("#found", Static)
        found.update(clean(text))
        found.set_class(is_error, "error")


async def go(app: OjApp, goal: Goal) -> None:
    """Go to the goal of a line."""
    if goal.kind == "mode":
        await app.action_mode(goal.to)
    elif goal.kind == "open":
        await open_by_id(app, goal.to)
    else:
        await app.run_action(goal.to)
