"""All decisions: what a person is asked, the oldest first.

Rule: open ones stand on top, then those put aside. Closed ones are asked for when somebody wants to see them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from oj_tui import render_decision
from oj_tui.render import Piece
from oj_tui.screens.decision_detail import DecisionScreen
from oj_tui.screens.page import Page
from oj_tui.store import View
from oj_tui.widgets.table import Column, Table

COLUMNS: Final = (
    Column("DECISION", 8, 8, rank=5),
    Column("SOURCE", 8, 8),
    Column("OWNER", 8, 24),
    Column("STEP", 4, 16, rank=3),
    Column("AGENT", 5, 16, rank=6),
    Column("STATUS", 11, 12, rank=4),
    Column("AGE", 3, 6, rank=1, right=True),
    Column("DEADLINE", 8, 24, rank=2),
    Column("ASKS", 20, 200, takes_rest=True),
)


class DecisionList(Page):
    """All decisions."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h", "closed", "Closed ones"),
        Binding("a", "attach", "Attach"),
        Binding("y", "copy", "Copy the id", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._wants_closed = False
        self._history: list[View] = []
        self._seen: frozenset[str] | None = None
        """Ids that news told of when closed ones were asked for; None: they have to be asked for."""

    def body(self) -> ComposeResult:
        """One table."""
        yield Table(COLUMNS, self._row)

    def on_screen_resume(self) -> None:
        """Some may have been closed meanwhile."""
        self._seen = None
        super().on_screen_resume()

    def _row(self, view: View) -> Sequence[Piece]:
        return render_decision.decision_row(view, self.oj.now())

    def fill(self) -> None:
        """Open ones first."""
        known = self.oj.store.decisions
        views = list(known.values())
        if self._wants_closed:
            views += [each for each in self._history if each["id"] not in known]
            if self._seen != frozenset(known):
                self._seen = frozenset(known)
                self._ask_closed()
        table = self.query_one(Table)
        table.empty = (
            "Nobody waits for you. h shows what was decided." if self.oj.store.is_filled else ""
        )
        table.fill(render_decision.in_order(views))

    @work(exclusive=True, group="closed")
    async def _ask_closed(self) -> None:
        told = await self.oj.ask("DecisionList", project=self.oj.project, all=True)
        if told is not None:
            self._history = [
                each for each in told["decisions"] if each["status"] not in ("open", "dismissed")
            ]
            self.fill()

    def action_closed(self) -> None:
        """Show closed ones too, or no longer."""
        self._wants_closed = not self._wants_closed
        self._seen = None
        self.fill()

    def action_copy(self) -> None:
        """Put the id of the one under the cursor into the clipboard."""
        key = self.query_one(Table).key
        if key is not None:
            self.oj.copy_to_clipboard(key)
            self.notify(f"copied: {key}", markup=False)

    def action_attach(self) -> None:
        """Enter the terminal of the agent that asks."""
        view = self.oj.store.decisions.get(self.query_one(Table).key or "")
        if view is not None and not view["agent_id"]:
            self.notify(
                "no agent asks this: Enter shows what does", severity="warning", markup=False
            )
        elif view is not None:
            self.oj.run_oj("attach", str(view["agent_id"]))
            self.refresh(layout=True)
            self.draw()

    def on_table_opened(self, message: Table.Opened) -> None:
        """Show one in full."""
        self.app.push_screen(DecisionScreen(message.key))
