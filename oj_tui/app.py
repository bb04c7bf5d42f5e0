"""The app: modes, keys, themes, and what was heard of the daemon.

Rule: it knows screens and never what is on them. Whatever the daemon refuses, or cannot be asked, is told in words, and so is
what goes wrong in the view itself; the app goes on.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import ClassVar, Final

from textual.app import App
from textual.binding import Binding, BindingType
from textual.notifications import SeverityLevel
from textual.widgets import Input

from oj_daemon.errors import OjError
from oj_daemon.wire.format import now_ms
from oj_daemon.wire.text import visible
from oj_tui import feed as feeds
from oj_tui.crash import CrashLog, Unbroken
from oj_tui.feed import Feed, Lost, News
from oj_tui.jump import Goal
from oj_tui.palette import OjCommands
from oj_tui.screens.agent import AgentList
from oj_tui.screens.daemon import DaemonScreen
from oj_tui.screens.decision import DecisionList
from oj_tui.screens.help import Help
from oj_tui.screens.job import JobList
from oj_tui.screens.jump import JumpLine, go
from oj_tui.screens.open import open_by_id
from oj_tui.screens.overview import Overview
from oj_tui.screens.page import Page
from oj_tui.store import Store, View

TICK_SECONDS: Final = 1.0
"""How often ages are drawn anew."""
DARK: Final = "textual-dark"
LIGHT: Final = "textual-light"


class OjApp(Unbroken, App[None]):
    """The live view."""

    TITLE = "oj"
    CSS_PATH = "oj.tcss"
    COMMANDS: ClassVar = {OjCommands}
    MODES: ClassVar = {
        "overview": Overview,
        "jobs": JobList,
        "agents": AgentList,
        "decisions": DecisionList,
        "daemon": DaemonScreen,
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "mode('overview')", "Overview", show=False),
        Binding("2", "mode('jobs')", "Jobs", show=False),
        Binding("3", "mode('agents')", "Agents", show=False),
        Binding("4", "mode('decisions')", "Decisions", show=False),
        Binding("5", "mode('daemon')", "Daemon", show=False),
        Binding("colon", "jump", "Jump", priority=True),  # see TYPES in screens/page.py
        Binding("question_mark", "help", "Help"),
        Binding("t", "theme", "Dark, light", show=False),
        Binding("ctrl+z", "suspend_process", "To the shell; fg comes back", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(  # noqa: PLR0913 - each a choice of its own
        self,
        feed: Feed,
        *,
        project: str | None = None,
        start: str = "overview",
        opened: str = "",
        now: Callable[[], int] = now_ms,
        crashes: CrashLog | None = None,
    ) -> None:
        super().__init__()
        self.feed = feed
        self.store = Store()
        self.project = project
        """The only project that is shown; None: every one."""
        self.lost: OjError | None = None
        """Why the daemon cannot be asked at the moment."""
        self.now = now
        self.crashes = crashes
        """Where errors go that nobody expected; None: the app ends with them, as tests want it."""
        self._start, self._opened = start, opened
        self._is_up = False
        self._follow: feeds.Followed | None = None

    async def on_mount(self) -> None:
        """Begin."""
        if not self.is_headless:
            # Without that a signal would end us as it does by itself, and leave the terminal as ours.
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, self._end, number)
        self._follow = self.feed.follow(self.post_message, nouns=["job"], project=self.project)
        self.set_interval(TICK_SECONDS, self.show)
        # After Ctrl+Z and fg the terminal has nothing of what it is taken to have.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        await self.switch_mode(self._start)
        if self._opened:
            await open_by_id(self, self._opened)
        self._is_up = True

    def _end(self, number: int) -> None:
        self.exit(return_code=128 + number)

    def on_unmount(self) -> None:
        """Ask for nothing more."""
        if self._follow is not None:
            self._follow.stop()
        self.feed.close()

    def on_news(self, message: News) -> None:
        """Take in what changed."""
        try:
            self.store.take(message.changes)
            self.lost = None
            self.show()
        finally:
            message.follow.taken()

    def on_lost(self, message: Lost) -> None:
        """Tell that the daemon cannot be asked; what was known stays on the screen."""
        self.lost = message.error
        self.show()

    def show(self) -> None:
        """Draw what is known now on the page in front, which may lie below a question."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, Page):
                screen.draw()
                return

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where something is typed, or asked, a colon is a colon."""
        if action == "jump" and (isinstance(self.focused, Input) or self.screen.is_modal):
            return False
        return super().check_action(action, parameters)

    async def action_mode(self, mode: str) -> None:
        """Go to a mode; from within it, back to its first screen."""
        if mode != self.current_mode:
            await self.switch_mode(mode)
            return
        while len(self.screen_stack) > 1:
            await self.pop_screen()

    def action_theme(self) -> None:
        """From dark to light, and back."""
        self.theme = LIGHT if self.current_theme.dark else DARK

    def action_help_quit(self) -> None:
        """Ctrl+C: nothing is ended by it, as it may be meant for what an agent runs."""
        self.notify("q quits; jobs and agents go on", markup=False)

    async def action_help(self) -> None:
        """Show all keys."""
        await self.push_screen(Help(self.screen))

    async def action_jump(self) -> None:
        """Ask where to go, and go there."""

        async def arrive(goal: Goal | None) -> None:
            if goal is not None:
                await go(self, goal)

        await self.push_screen(JumpLine(self.store), arrive)

    async def ask(self, type: str, /, **fields: object) -> View | None:  # noqa: A002 - the wire's word
        """Ask the daemon; None when it refused or could not be asked, which has been told then."""
        try:
            return await feeds.ask(self.feed, type, **fields)
        except OjError as error:
            self.tell_error(error)
            return None

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """Tell it as the library does; text of others in it cannot act on the terminal."""
        super().notify(
            visible(message), title=title, severity=severity, timeout=timeout, markup=markup
        )

    def tell_error(self, error: OjError) -> None:
        """Say what went wrong, and what to do about it."""
        text = error.message if not error.hint else f"{error.message}\n{error.hint}"
        self.notify(text, severity="error", markup=False, timeout=8)

    def run_oj(self, *arguments: str) -> None:
        """Lend the terminal to another `oj`, such as `oj attach ID`, and come back."""
        with self.suspend():
            subprocess.run([sys.executable, "-m", "oj_cli", *arguments], check=False)
        self.refresh(layout=True)

    def _handle_exception(self, error: Exception) -> None:
        """Tell what went wrong and go on; before there is a screen to go on with, end as the library does."""
        if self.crashes is None or not self._is_up:
            super()._handle_exception(error)
            return
        words = self.crashes.write(error)
        if words:
            self.notify(words, severity="error", markup=False, timeout=15)
