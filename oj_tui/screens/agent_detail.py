"""One agent: its terminal as it is now, what there is to say about it, and its log.

Rule: the terminal is looked at only while the screen is in front, and the next look is taken when the last one was answered: a slow
daemon is not asked faster than it answers.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll

from oj_daemon.errors import OjError
from oj_daemon.wire.names import short_id
from oj_tui import feed, render_agent
from oj_tui.feed import Followed, Lost, News
from oj_tui.screens.agent_page import AgentPage
from oj_tui.store import View
from oj_tui.widgets.focus import take_focus
from oj_tui.widgets.lines import Lines
from oj_tui.widgets.log_pane import LogPane
from oj_tui.widgets.message_line import MessageLine
from oj_tui.widgets.terminal_pane import TerminalPane

LOOK_SECONDS: Final = 0.25
"""Pause between two looks at a terminal."""
FIGURES_SECONDS: Final = 2.0
"""How often is asked what the agent did and spent."""
FAILED_SECONDS: Final = 2.0
"""The same after one that failed."""
LOG_LINES: Final = 500
"""Lines from the end of the log that are read at first."""


class AgentScreen(AgentPage):
    """One agent."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (124, "-wide")]  # noqa: RUF012 - the library declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log", "Log"),
        Binding("escape", "back", "Back"),
    ]

    def __init__(self, agent_id: str, *, start: str = "terminal") -> None:
        super().__init__()
        self._start = start
        """What is shown first: the terminal, or the log."""
        self._agent_id = agent_id
        self._asked: View | None = None
        """What AgentShow said, for one that no news tell of."""
        self._peeked: View | None = None
        self._problem = ""
        self._seen_at = -1
        """`updated_at_ms` of the agent when a screen that is live no more was asked for."""
        self._log: Followed | None = None

    def body(self) -> ComposeResult:
        """The terminal, or the log; beside or below it the rest."""
        with Horizontal(id="both"):
            with Vertical(id="left"):
                yield Lines(classes="terminal-title")
                yield TerminalPane()
                log = LogPane(empty="Nothing yet.", id="log")
                log.display = False
                yield log
            with VerticalScroll(classes="beside", can_focus=False):
                yield Lines(id="about")
        yield MessageLine()

    def on_mount(self) -> None:
        """Keys go to the terminal; figures are no news, and asked for."""
        take_focus(self.query_one(TerminalPane))
        if self._start == "log":
            self.action_log()
        self.set_interval(FIGURES_SECONDS, self.ask_figures)

    def on_screen_resume(self) -> None:
        """Look at it."""
        super().on_screen_resume()
        self._look_on()
        if self.agent is None:
            self._show_agent()

    def on_screen_suspend(self) -> None:
        """Nobody looks."""
        self.workers.cancel_group(self, "look")

    def on_unmount(self) -> None:
        """Nothing is wanted any more."""
        if self._log is not None:
            self._log.stop()

    @property
    def agent(self) -> View | None:
        """This one."""
        return self.oj.store.agents.get(self._agent_id) or self._asked

    def fill(self) -> None:
        """What is known of it now."""
        self._title()
        about = self.query_one("#about", Lines)
        if self.agent is None:
            about.put([[(f"agent {short_id(self._agent_id)} is not known here", "muted")]])
            return
        tell = render_agent.agent_brief if self.has_class("-narrow") else render_agent.agent_lines
        about.put(tell(self.agent, self.oj.now()))
        is_shown = self._peeked is not None and not self._peeked["live"]
        if is_shown and self.agent["updated_at_ms"] != self._seen_at:
            self._look_on()

    def on_resize(self) -> None:
        """There may be room for more, or for less."""
        self.call_after_refresh(self.draw)

    def _title(self) -> None:
        title = self.query_one(".terminal-title", Lines)
        if self.query_one(LogPane).display:
            title.put([[("its log", "name"), ("  l shows the terminal again", "muted")]])
        else:
            title.put([render_agent.screen_title(self._peeked, self._problem)])

    def ask_figures(self) -> None:
        """Ask what it did and spent so far, if somebody looks and it may have changed."""
        agent = self.agent
        is_seen = self.is_current and self.oj.lost is None
        if is_seen and agent is not None and render_agent.is_live(agent):
            self._figures()

    @work(exclusive=True, group="figures")
    async def _figures(self) -> None:
        try:
            told = await feed.ask(self.oj.feed, "AgentShow", id=self._agent_id)
        except OjError:
            # The terminal's own question, asked more often, tells what is wrong.
            return
        self.oj.store.take_figures([told])
        self.draw()

    @work(exclusive=True, group="show")
    async def _show_agent(self) -> None:
        self._asked = await self.oj.ask("AgentShow", id=self._agent_id)
        self.draw()

    def _look_on(self) -> None:
        """Look at the terminal, if that is what is shown."""
        if self.is_current and self.query_one(TerminalPane).display:
            self._look()

    @work(exclusive=True, group="look")
    async def _look(self) -> None:
        """Look at the terminal again and again, until it is live no more."""
        pane = self.query_one(TerminalPane)
        while True:
            self._seen_at = self.agent["updated_at_ms"] if self.agent else -1
            try:
                screen = await feed.ask(self.oj.feed, "AgentPeek", id=self._agent_id)
            except OjError as error:
                self._problem = error.message
                self._title()
                await asyncio.sleep(FAILED_SECONDS)
                continue
            self._problem = ""
            self._peeked = screen
            has_colour = len(screen["ansi"]) == len(screen["lines"])
            pane.put(
                screen["ansi"] if has_colour else screen["lines"],
                columns=screen["cols"],
                is_live=screen["live"],
            )
            self._title()
            if not screen["live"]:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def action_back(self) -> None:
        """End a search; else go back to where one came from."""
        log = self.query_one(LogPane)
        if not (log.display and log.leave()):
            self.app.pop_screen()

    def action_log(self) -> None:
        """Show the log in place of the terminal, or the terminal again."""
        log, pane = self.query_one(LogPane), self.query_one(TerminalPane)
        log.display = not log.display
        pane.display = not log.display
        if log.display:
            self.set_focus(log.query_one("LogLines"))
            self.workers.cancel_group(self, "look")
            if self._log is None:
                self._read_log()
        else:
            take_focus(pane)
            self._look_on()
        self._title()

    @work(exclusive=True, group="log")
    async def _read_log(self) -> None:
        """Read what is there, and follow what comes."""
        told = await self.oj.ask("AgentLogs", id=self._agent_id, lines=LOG_LINES)
        if told is None or not self.is_attached:
            return
        log = self.query_one(LogPane)
        log.clear()
        offset = 0
        for each in told["logs"]:
            log.add(each["content"])
            offset = each["offset"]
        if not told["is_over"] or any(each["has_more"] for each in told["logs"]):
            self._log = self.oj.feed.follow(self.post_message, logs={self._agent_id: offset})

    def on_news(self, message: News) -> None:
        """Add to the log; these are no news for others."""
        message.stop()
        try:
            chunk = message.changes["logs"].get(self._agent_id)
            if chunk is not None:
                self.query_one(LogPane).add(chunk["content"], restarted=chunk["restarted"])
        finally:  # else nothing more would ever come
            message.follow.taken()

    def on_lost(self, message: Lost) -> None:
        """The app's own question tells it."""
        message.stop()
