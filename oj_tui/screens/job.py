"""Jobs: the list of them.

Rule: what is shown in which order is said by a Wish and made by listing.py; what is done to a job is asked of the daemon, and
its answer comes back as news.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static

from oj_daemon.wire.names import ENDED_AGENTS, short_id
from oj_tui import listing, render
from oj_tui.listing import Wish
from oj_tui.render import Piece, clean
from oj_tui.screens.confirm import Confirm
from oj_tui.screens.open import open_by_id
from oj_tui.screens.page import Page
from oj_tui.store import View
from oj_tui.widgets.focus import take_focus
from oj_tui.widgets.table import HEADING, Column, Table

COLUMNS = (
    Column("ID", 8, 8),
    Column("NAME", 8, 30),
    Column("PROJECT", 7, 20, rank=4),
    Column("STEP", 6, 24, rank=2),
    Column("STATUS", 11, 12),
    Column("TRY", 5, 5, rank=5, right=True),
    Column("AGE", 4, 6, rank=1, right=True),
    Column("WHY", 10, 200, rank=3, takes_rest=True),
)


class JobList(Page):
    """All jobs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", priority=True),
        Binding("escape", "clear", "Clear the filter", show=False),
        Binding("s", "sort", "Sort"),
        Binding("S", "reverse", "Reverse the order", show=False),
        Binding("b", "group", "Group by", show=False),
        Binding("c", "cancel", "Cancel"),
        Binding("z", "suspend", "Suspend", show=False),
        Binding("r", "resume", "Resume"),
        Binding("a", "attach", "Attach"),
        Binding("l", "log", "Log"),
        Binding("d", "decision", "Decision", show=False),
        Binding("y", "copy", "Copy the id", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._wish = Wish()

    def body(self) -> ComposeResult:
        """One table; below it how many there are, and the line of the filter."""
        yield Table(COLUMNS, self._cells)
        yield Static(markup=False, classes="count")
        yield Input(placeholder="name, kind, project, step, status, id or reason", compact=True)

    def on_mount(self) -> None:
        """The filter is there when it is asked for."""
        self.query_one(Input).display = False
        take_focus(self.query_one(Table))

    def _cells(self, job: View) -> Sequence[Piece]:
        return render.job_row(job, self.oj.now())

    def fill(self) -> None:
        """Those that are wanted, in the order that is wanted."""
        known = self.oj.store.jobs
        rows = listing.jobs(list(known.values()), self._wish)
        shown = sum(HEADING not in row for row in rows)
        table = self.query_one(Table)
        is_down = self._wish.is_reversed != (self._wish.order in listing.FALLING)
        table.sorted_by = (self._wish.order, is_down)
        table.empty = self._empty(len(known))
        table.fill(rows)
        told = listing.told(shown, len(known), self._wish, "jobs") if known else ""
        self.query_one(".count", Static).update(told)

    def _empty(self, known: int) -> str:
        if not self.oj.store.is_filled:
            return ""
        if known:
            return f"No job matches '{clean(self._wish.words)}'; Esc shows all."
        return "No jobs yet; 'oj run' lists what can be run."

    def wish(self, **changes: object) -> None:
        """Show the list in another way."""
        self._wish = msgspec.structs.replace(self._wish, **changes)
        self.fill()

    # Filter, order, groups

    def narrow(self, words: str) -> None:
        """Show only what has these words."""
        line = self.query_one(Input)
        line.display = bool(words) or line.has_focus
        line.value = words
        self.wish(words=words)

    def on_input_changed(self, event: Input.Changed) -> None:
        """The list follows every letter."""
        if event.value != self._wish.words:
            self.wish(words=event.value)

    def on_input_submitted(self) -> None:
        """Back to what was found."""
        take_focus(self.query_one(Table))

    def action_filter(self) -> None:
        """Type a filter."""
        line = self.query_one(Input)
        line.display = True
        take_focus(line)

    def action_clear(self) -> None:
        """Show all again."""
        take_focus(self.query_one(Table))
        self.query_one(Input).display = False
        self.narrow("")

    def on_table_title_clicked(self, message: Table.TitleClicked) -> None:
        """Sort by the column that was clicked; a second click reverses."""
        if message.title == self._wish.order:
            self.action_reverse()
        elif message.title in listing.JOB_ORDERS:
            self.wish(order=message.title, is_reversed=False)

    def action_sort(self) -> None:
        """Sort by the next column."""
        orders = list(listing.JOB_ORDERS)
        at = orders.index(self._wish.order) + 1
        self.wish(order=orders[at % len(orders)], is_reversed=False)

    def action_reverse(self) -> None:
        """The last first."""
        self.wish(is_reversed=not self._wish.is_reversed)

    def action_group(self) -> None:
        """Put together by the next field, or by none."""
        at = listing.JOB_GROUPS.index(self._wish.group) + 1
        self.wish(group=listing.JOB_GROUPS[at % len(listing.JOB_GROUPS)])

    # What is done to the job under the cursor

    def _chosen(self) -> View | None:
        key = self.query_one(Table).key
        job = self.oj.store.jobs.get(key) if key else None
        if job is None:
            self.oj.notify("there is no job under the cursor", severity="warning")
        return job

    async def on_table_opened(self, message: Table.Opened) -> None:
        """Show it in full."""
        await open_by_id(self.oj, message.key)

    @work
    async def action_cancel(self) -> None:
        """End it for good."""
        job = self._chosen()
        if job is None:
            return
        consequence = "Its steps and agents are ended; its clean-up steps run."
        if await self.oj.push_screen_wait(Confirm(f"Cancel {title_of(job)}?", consequence)):
            reply = await self.oj.ask("JobCancel", ids=[job["id"]])
            self._tell(reply, "cancelled", job)

    @work
    async def action_suspend(self) -> None:
        """Stop it for now."""
        job = self._chosen()
        if job is None:
            return
        consequence = "Its steps and agents are ended; its workspace is kept, and r resumes it."
        if await self.oj.push_screen_wait(Confirm(f"Suspend {title_of(job)}?", consequence)):
            reply = await self.oj.ask("JobSuspend", ids=[job["id"]])
            self._tell(reply, "suspended", job)

    def _tell(self, reply: View | None, done: str, job: View) -> None:
        """What became of it; a refusal was told by `ask`."""
        if reply is None:
            return
        if job["id"] in reply[done]:
            self.oj.notify(f"{done}: {title_of(job)}", markup=False)
        elif job["id"] in reply["already_terminal"]:
            text = f"{title_of(job)} was not {done}: it has ended already"
            self.oj.notify(text, severity="warning", markup=False)
        else:
            text = f"{title_of(job)} was not {done}: the daemon does not know it any more"
            self.oj.notify(text, severity="error", markup=False)

    @work
    async def action_resume(self) -> None:
        """Let it go on."""
        job = self._chosen()
        reply = await self.oj.ask("JobResume", id=job["id"]) if job else None
        if job is not None and reply is not None:
            steps = ", ".join(reply["steps"])
            where = f" at {clean(steps)}" if steps else ""
            lines = [f"resumed: {title_of(job)}{where}", *map(clean, reply["warnings"])]
            self.oj.notify("\n".join(lines), markup=False)

    def action_attach(self) -> None:
        """Enter the terminal of its newest agent that is up."""
        job = self._chosen()
        if job is None:
            return
        up = [
            each
            for each in self.oj.store.agents_of(job["id"])
            if each["status"] not in ENDED_AGENTS and each["status"] != "queued"
        ]
        if up:
            self.oj.run_oj("attach", max(up, key=lambda each: int(each["created_at_ms"]))["id"])
        else:
            text = f"{title_of(job)} has no agent that is up"
            self.oj.notify(text, severity="warning", markup=False)

    async def action_log(self) -> None:
        """Show it in full, at its log."""
        job = self._chosen()
        if job is not None:
            await open_by_id(self.oj, job["id"], start="log")

    async def action_decision(self) -> None:
        """Show what it waits for a human for."""
        job = self._chosen()
        if job is None:
            return
        asked = self.oj.store.decisions_of(job["id"])
        if asked:
            await open_by_id(self.oj, asked[0]["id"])
        else:
            text = f"{title_of(job)} waits for no decision"
            self.oj.notify(text, severity="warning", markup=False)

    def action_copy(self) -> None:
        """Put its id into the clipboard."""
        job = self._chosen()
        if job is not None:
            self.oj.copy_to_clipboard(job["id"])
            self.oj.notify(f"copied: {job['id']}", markup=False)


def title_of(job: View) -> str:
    """A job in a sentence: its name and its short id."""
    return f"{clean(listing.name_of(job))} ({short_id(job['id'])})"
