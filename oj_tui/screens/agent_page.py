"""What can be done with an agent, wherever one is shown.

Rule: the same keys do the same on every screen that is about an agent. Ending one asks first; what the daemon refuses has been told
in words by then.
"""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.widgets import Input

from oj_daemon.wire.names import short_id
from oj_tui.render import clean
from oj_tui.screens.confirm import Confirm
from oj_tui.screens.decision_detail import DecisionScreen
from oj_tui.screens.page import Page
from oj_tui.store import View
from oj_tui.widgets.message_line import MessageLine


class AgentPage(Page):
    """A screen with an agent to act on; its body holds a MessageLine."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "attach", "Attach"),
        Binding("m", "message", "Message", priority=True),
        Binding("d", "decision", "Decision"),
        Binding("r", "resume", "Resume"),
        Binding("K", "kill", "Kill"),
        Binding("y", "copy", "Copy the id", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._to = ""
        """Whom the message line writes to."""

    @property
    def agent(self) -> View | None:
        """The agent to act on; None where there is none."""
        raise NotImplementedError

    def action_attach(self) -> None:
        """Enter its terminal, and come back."""
        if self.agent is not None:
            self.oj.run_oj("attach", str(self.agent["id"]))
            self.refresh(layout=True)
            self.draw()

    def action_message(self) -> None:
        """Write to it."""
        if self.agent is not None:
            self._to = str(self.agent["id"])
            line = self.query_one(MessageLine)
            line.open(f"message for {clean(self.agent['name'])} (Enter sends, Esc leaves)")

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Send what was written."""
        if not isinstance(event.input, MessageLine):
            return
        event.stop()
        if not event.value.strip():
            return
        sent = await self.oj.ask("AgentSend", id=self._to, message=event.value)
        if sent is not None:
            event.input.close()
            self.notify(f"sent to {clean(sent['name'])}", markup=False)

    def action_copy(self) -> None:
        """Put its id into the clipboard."""
        if self.agent is not None:
            self.oj.copy_to_clipboard(str(self.agent["id"]))
            self.notify(f"copied: {self.agent['id']}", markup=False)

    def action_decision(self) -> None:
        """What it waits for a person for."""
        agent = self.agent
        if agent is None:
            return
        if agent["decision_id"]:
            self.app.push_screen(DecisionScreen(str(agent["decision_id"])))
        else:
            self.notify(f"{clean(agent['name'])} waits for no decision", markup=False)

    @work
    async def action_resume(self) -> None:
        """Let it go on."""
        if self.agent is not None:
            resumed = await self.oj.ask("AgentResume", id=self.agent["id"])
            if resumed is not None:
                self.notify(f"{clean(resumed['name'])} goes on", markup=False)

    @work
    async def action_kill(self) -> None:
        """End it, if that is meant."""
        agent = self.agent
        if agent is None:
            return
        name = clean(agent["name"])
        asks = Confirm(
            f"Kill agent {name} ({short_id(agent['id'])})?",
            "Its session ends at once. Then follows what its definition says about dying.",
        )
        if await self.app.push_screen_wait(asks):
            killed = await self.oj.ask("AgentKill", id=agent["id"])
            if killed is not None:
                self.notify(f"{name} is being ended", markup=False)
