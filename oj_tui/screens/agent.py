"""All agents: what each does, for whom, and what it cost.

Rule: live ones stand first. What they did and spent is no news by itself: it is asked for while the screen is in front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from oj_daemon.errors import OjError
from oj_tui import feed, render_agent
from oj_tui.render import Piece
from oj_tui.screens.agent_detail import AgentScreen
from oj_tui.screens.agent_page import AgentPage
from oj_tui.store import View
from oj_tui.widgets.filter import Filter
from oj_tui.widgets.focus import take_focus
from oj_tui.widgets.message_line import MessageLine
from oj_tui.widgets.table import Column, Table

FIGURES_SECONDS: Final = 2.0
"""How often figures are asked for."""
COLUMNS: Final = (
    Column("AGENT", 8, 8),
    Column("NAME", 8, 24),
    Column("STATUS", 11, 12),
    Column("STATE", 9, 12, rank=2),
    Column("JOB", 9, 24, rank=3),
    Column("STEP", 6, 16, rank=5),
    Column("PROJECT", 8, 20, rank=7),
    Column("R/W/CMD", 7, 12, rank=6, right=True),
    Column("TOKENS", 9, 12, rank=8, right=True),
    Column("COST", 6, 8, rank=4, right=True),
    Column("AGE", 5, 6, rank=1, right=True),
    Column("WAITS FOR", 16, 200, rank=1, takes_rest=True),
)
"""What gives way first in a narrow terminal can be seen by opening the agent."""


def _cost(agent: View) -> float:
    return float(agent["usage"]["total_cost_usd"]) if agent["usage"] else 0.0


SORTS: Final[tuple[tuple[str, bool, Callable[[View], tuple[object, ...]]], ...]] = (
    ("AGE", False, lambda agent: (-int(agent["created_at_ms"]),)),
    ("COST", True, lambda agent: (_cost(agent),)),
    ("NAME", False, lambda agent: (str(agent["name"]), str(agent["id"]))),
    ("STATUS", False, lambda agent: (str(agent["status"]), str(agent["state"]))),
    ("JOB", False, lambda agent: (str(agent["job_name"]), int(agent["created_at_ms"]))),
    ("PROJECT", False, lambda agent: (str(agent["project"]), str(agent["job_name"]))),
)
"""What `s` goes through: column, whether its greatest stand on top at first, and what is compared."""


class AgentList(AgentPage):
    """All agents."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", priority=True),
        Binding("s", "sort", "Sort"),
        Binding("l", "log", "Log"),
        Binding("S", "reverse", "Reverse", show=False),
        Binding("escape", "no_filter", "No filter", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._sort = 0
        self._is_reversed = False
        self._wants_all = True
        """Nothing was asked for since the screen came to the front."""

    def body(self) -> ComposeResult:
        """A table, and lines to type on."""
        yield Table(COLUMNS, self._row)
        yield Filter(Table)
        yield MessageLine()

    def on_mount(self) -> None:
        """Keep figures fresh."""
        take_focus(self.query_one(Table))
        self.set_interval(FIGURES_SECONDS, self.ask_figures)

    def on_screen_resume(self) -> None:
        """Figures may be old: nobody asked meanwhile."""
        super().on_screen_resume()
        self._wants_all = True
        self.ask_figures()

    @property
    def agent(self) -> View | None:
        """The one under the cursor."""
        key = self.query_one(Table).key
        return self.oj.store.agents.get(key) if key else None

    def _row(self, agent: View) -> Sequence[Piece]:
        return render_agent.agent_row(agent, self.oj.now())

    def fill(self) -> None:
        """Live ones first, each group sorted."""
        table = self.query_one(Table)
        typed = self.query_one(Filter).value
        found = [
            agent for agent in self.oj.store.agents.values() if render_agent.matches(agent, typed)
        ]
        title, is_down, key = SORTS[self._sort]
        is_down ^= self._is_reversed
        found.sort(key=key, reverse=is_down)
        found.sort(key=lambda agent: not render_agent.is_live(agent))
        table.sorted_by = (title, is_down)
        table.empty = (
            f"No agent matches '{typed}'; Esc shows all."
            if typed
            else "No agents yet; 'oj run' lists what can be run."
            if self.oj.store.is_filled
            else ""
        )
        table.fill(found)

    def ask_figures(self) -> None:
        """Ask unless nobody looks, or nothing can have changed."""
        is_seen = self.is_current and self.oj.lost is None
        if is_seen and (
            self._wants_all or any(map(render_agent.is_live, self.oj.store.agents.values()))
        ):
            self._figures()

    @work(exclusive=True, group="figures")
    async def _figures(self) -> None:
        try:
            told = await feed.ask(self.oj.feed, "AgentList", project=self.oj.project, limit=None)
        except OjError:
            # The connection's loss is told by the banner, and the next look comes soon.
            return
        self._wants_all = False
        self.oj.store.take_figures(told["agents"])
        self.fill()

    def on_table_opened(self, message: Table.Opened) -> None:
        """Show one in full."""
        self.app.push_screen(AgentScreen(message.key))

    def action_log(self) -> None:
        """Show the log of the one under the cursor."""
        if self.agent is not None:
            self.app.push_screen(AgentScreen(str(self.agent["id"]), start="log"))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow the list."""
        if isinstance(event.input, Filter):
            self.fill()

    def action_filter(self) -> None:
        """Begin to narrow."""
        self.query_one(Filter).open()

    def action_no_filter(self) -> None:
        """Show all."""
        self.query_one(Filter).action_drop()

    def action_sort(self) -> None:
        """Sort by the next column."""
        self._sort = (self._sort + 1) % len(SORTS)
        self._is_reversed = False
        self.fill()

    def on_table_title_clicked(self, message: Table.TitleClicked) -> None:
        """Sort by that column; once more turns the order round."""
        titles = [title for title, _, _ in SORTS]
        if message.title not in titles:
            return
        at = titles.index(message.title)
        self._is_reversed = at == self._sort and not self._is_reversed
        self._sort = at
        self.fill()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._is_reversed = not self._is_reversed
        self.fill()
