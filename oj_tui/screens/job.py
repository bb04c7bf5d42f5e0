"""Jobs: the list of them, and one in full."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from oj_tui import render
from oj_tui.render import Piece
from oj_tui.screens.page import Page
from oj_tui.store import View
from oj_tui.widgets.table import Column, Table

COLUMNS = (
    Column("ID", 8, 8),
    Column("NAME", 8, 30),
    Column("PROJECT", 6, 20, rank=4),
    Column("STEP", 6, 24, rank=2),
    Column("STATUS", 11, 12),
    Column("TRY", 3, 3, rank=5, right=True),
    Column("AGE", 4, 6, rank=1, right=True),
    Column("WHY", 10, 200, rank=3, takes_rest=True),
)


class JobList(Page):
    """All jobs."""

    def body(self) -> ComposeResult:
        """One table."""
        yield Table(COLUMNS, self._cells, empty="No jobs yet; 'oj run' lists what can be run.")

    def _cells(self, job: View) -> Sequence[Piece]:
        return render.job_row(job, self.oj.now())

    def fill(self) -> None:
        """Newest change first."""
        jobs = sorted(self.oj.store.jobs.values(), key=lambda job: -int(job["updated_at_ms"]))
        self.query_one(Table).fill(jobs)
