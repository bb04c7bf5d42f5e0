"""The daemon: how it is, the places that it works in, and its log.

Rule: it is asked every two seconds while it is in front, and never twice at once. What it cannot or may not tell is said where it
would stand, and not again and again as a notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.timer import Timer

from oj_daemon.errors import OjError
from oj_tui import feed as feeds
from oj_tui import render_daemon
from oj_tui.render import Piece
from oj_tui.screens.paned import PanedPage
from oj_tui.store import View, owner_of
from oj_tui.widgets.log_pane import LogPane
from oj_tui.widgets.panes import Panes
from oj_tui.widgets.rows import Rows
from oj_tui.widgets.table import Column, Table

POLL_SECONDS: Final = 2.0
TAIL: Final = 500
"""Lines of the log that are asked for at first."""
PLACES = (
    Column("PLACE", 20, 60),
    Column("KIND", 8, 8, rank=5),
    Column("STATUS", 10, 11),
    Column("JOB", 8, 24),
    Column("IS", 11, 11, rank=2),
    Column("PROJECT", 7, 16, rank=4),
    Column("AGE", 3, 6, rank=3, right=True),
    Column("WAITS FOR / WHY", 16, 400, rank=1, takes_rest=True),
)
IDENTITY: Final = ("pid", "epoch")
"""What tells one daemon from the next."""
RESTARTED: Final = "-- another daemon runs now; what follows is its log --"


class DaemonScreen(PanedPage):
    """The daemon."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h", "pane('health')", "Health", show=False),
        Binding("p", "pane('places')", "Places", show=False),
        Binding("l", "pane('log')", "Log"),
        Binding("escape", "back", "End the search", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._info: View | None = None
        self._trouble = ""
        """Why it could not be asked the last time."""
        self._offset: int | None = None
        """From where its log goes on; None: its tail is still to be asked for."""
        self._may_read_log = True
        self._timer: Timer | None = None

    def body(self) -> ComposeResult:
        """Three panes."""
        yield Panes(
            {
                "health": Rows(id="health"),
                "places": Table(PLACES, self._place, id="places"),
                "log": LogPane(render_daemon.log_line, empty="asking for the log ..."),
            },
            start="health",
            second="places",
        )

    def on_mount(self) -> None:
        """Begin to ask."""
        self.query_one(Table).fill([])
        self._timer = self.set_interval(POLL_SECONDS, self.poll)

    def on_screen_resume(self) -> None:
        """It is in front: ask now, and from now on; a token may be another one meanwhile."""
        super().on_screen_resume()
        self._may_read_log = True
        if self._timer is not None:
            self._timer.resume()
        self.poll()

    def on_screen_suspend(self) -> None:
        """Nobody looks."""
        if self._timer is not None:
            self._timer.pause()

    # What comes

    def poll(self) -> None:
        """Ask, unless an answer is still awaited."""
        if not any(worker.group == "poll" for worker in self.workers):
            self._ask()

    @work(group="poll")
    async def _ask(self) -> None:
        try:
            info = await feeds.ask(self.oj.feed, "DaemonStatus")
        except OjError as error:
            self._trouble = error.message
            self.draw()
            return
        self._trouble = ""
        # In a container every daemon has the same number of a process.
        if self._info is not None and any(self._info[name] != info[name] for name in IDENTITY):
            self._offset = None
            self.query_one(LogPane).note(RESTARTED)
        self._info = info
        self.draw()
        if self._may_read_log:
            await self._ask_log()

    async def _ask_log(self) -> None:
        pane = self.query_one(LogPane)
        fields: dict[str, Any] = (
            {"lines": TAIL} if self._offset is None else {"offset": self._offset}
        )
        try:
            log = await feeds.ask(self.oj.feed, "DaemonLogs", **fields)
        except OjError as error:
            if error.code == "unauthorized":
                self._may_read_log = False
                pane.say(f"The log is not for this token: {error.message}")
            else:
                pane.say(f"The log cannot be read: {error.message}")
            return
        # It counts lines from its start: a smaller number is that of another daemon.
        is_other = self._offset is not None and log["offset"] < self._offset
        self._offset = int(log["offset"])
        pane.say("Nothing in the log yet.")
        if log["content"]:
            pane.add(log["content"], restarted=is_other)

    # What is shown

    def fill(self) -> None:
        """Draw what is known now."""
        panes = self.query_one(Panes)
        store = self.oj.store
        panes.label("places", len(store.workspaces))
        if panes.is_shown("health"):
            rows = self.query_one("#health", Rows)
            room = rows.scrollable_content_region.width
            rows.fill(render_daemon.health(self._info, room, trouble=self._trouble))
        if panes.is_shown("places"):
            places = sorted(store.workspaces.values(), key=render_daemon.place_order)
            table = self.query_one("#places", Table)
            table.empty = "No workspaces." if store.is_filled else ""
            table.fill(places)

    def _place(self, workspace: View) -> Sequence[Piece]:
        return render_daemon.place_row(workspace, self.oj.store.jobs, self.oj.now())

    # Where to go

    def on_panes_shown(self) -> None:
        """A pane is drawn when it comes to the front."""
        self.call_after_refresh(self.draw)

    def action_back(self) -> None:
        """End the search."""
        self.query_one(LogPane).leave()

    async def on_table_opened(self, message: Table.Opened) -> None:
        """The job that works there."""
        from oj_tui.screens.open import open_by_id  # noqa: PLC0415 - it knows all screens

        workspace = self.oj.store.workspaces.get(message.key)
        if workspace is not None:
            await open_by_id(self.oj, owner_of(workspace))
