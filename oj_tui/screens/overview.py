"""The overview: what needs a human, and what goes on in each project.

Rule: one table a noun, what needs a human first; queues, workers and crons will stand below the projects as tables of their
own. Walking on beyond the end of one leads into the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from oj_tui import render_overview as render
from oj_tui.render import Piece
from oj_tui.screens.job import JobList
from oj_tui.screens.open import open_by_id
from oj_tui.screens.page import Page
from oj_tui.store import View
from oj_tui.widgets.focus import take_focus
from oj_tui.widgets.table import Column, Table

NEEDS = (
    Column("NEEDS YOU", 11, 12),
    Column("NAME", 8, 30),
    Column("PROJECT", 7, 20, rank=4),
    Column("AGE", 4, 6, rank=1, right=True),
    Column("DUE", 4, 8, rank=2),
    Column("WHY", 10, 200, rank=3, takes_rest=True),
)
PROJECTS = (
    Column("PROJECT", 8, 30),
    Column("RUNNING", 7, 7, rank=4, right=True),
    Column("WAITING", 7, 7, rank=3, right=True),
    Column("SUSPENDED", 9, 9, rank=5, right=True),
    Column("FAILED", 6, 6, rank=2, right=True),
    Column("AGENTS", 6, 6, rank=6, right=True),
    Column("DECISIONS", 9, 9, rank=1, right=True),
)


class Overview(Page):
    """What one looks at first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "app.mode('decisions')", "Decisions", show=False)
    ]

    def body(self) -> ComposeResult:
        """A table for each noun."""
        yield Table(NEEDS, self._need, id="needs")
        yield Table(PROJECTS, render.project_row, id="projects")

    def _need(self, row: View) -> Sequence[Piece]:
        return render.need_row(row, self.oj.now())

    def fill(self) -> None:
        """Count anew."""
        store, now = self.oj.store, self.oj.now()
        needs = self.query_one("#needs", Table)
        needs.empty = "Nothing needs you." if store.is_filled else ""
        needs.fill(render.needs(store, now))
        projects = self.query_one("#projects", Table)
        projects.empty = "No jobs yet; 'oj run' lists what can be run." if store.is_filled else ""
        projects.fill(render.projects(store, now))

    def on_table_left(self, message: Table.Left) -> None:
        """Into the next table, or the one before."""
        tables = list(self.query(Table))
        at = tables.index(message.table) + message.by
        if 0 <= at < len(tables):
            take_focus(tables[at])

    async def on_table_opened(self, message: Table.Opened) -> None:
        """Show the thing; of a project its jobs."""
        if message.table.id == "projects":
            await self.oj.action_mode("jobs")
            if not isinstance(self.oj.screen, JobList):  # the mode was left with a job open
                await self.oj.action_mode("jobs")
            if isinstance(self.oj.screen, JobList):
                self.oj.screen.narrow(f"project:{message.key}")
        else:
            await open_by_id(self.oj, message.key)
