"""Which turn and which tool use something belongs to: hooks and log tell the same story at different times.

Rule: pure memory. The hooks set the pace; what the log says about a turn that is over, or that they have left behind,
is old news.
"""

from __future__ import annotations

from typing import Final, TypeVar

from oj_daemon.drivers.base import AgentState, Ends, Prompt, Signal

Value = TypeVar("Value")
REMEMBERED: Final = 64


class Turns:
    """The turns and tool uses of one child."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.current = ""
        self.of_log = ""
        """The turn that the log is telling about."""
        self.queued = 0
        """How many messages wait for the end of the turn."""
        self._submitted: dict[str, None] = {}
        self._is_over: dict[str, bool] = {}
        self._tools: dict[str, tuple[str, str]] = {}
        self._by_hook: dict[str, None] = {}

    def open(self, turn_id: str) -> None:
        """Note that something happens in this turn."""
        if turn_id:
            self.current = turn_id
            remember(self._is_over, turn_id, False)

    def submit(self, turn_id: str) -> None:
        """Note that a message was accepted. Within a turn that runs it waits for the end of that one.

        Newer releases tell of it at once and give it the id of the running turn; its own turn gets another id, and no
        hook says when that begins.
        """
        if turn_id and turn_id in self._submitted and not self.is_over(turn_id):
            self.queued += 1
        if turn_id:
            remember(self._submitted, turn_id, None)

    def take_queued(self) -> bool:
        """Return whether a message waited for the end of the turn; it begins the next one."""
        if not self.queued:
            return False
        self.queued -= 1
        return True

    def end(self, turn_id: str) -> None:
        """Note that this turn is over."""
        if turn_id:
            remember(self._is_over, turn_id, True)

    def is_over(self, turn_id: str) -> bool:
        """Return whether this turn has ended."""
        return self._is_over.get(turn_id, False)

    def is_old_news(self, signal: Signal) -> bool:
        """Return whether a log line tells what the hooks have told already."""
        if signal.state is AgentState.PROMPT and signal.tool_use_id in self._by_hook:
            return True
        if self.of_log not in self._is_over:
            return False
        if signal.state is AgentState.WORKING and signal.ends is Ends.TURN:
            return True  # a turn begins once; since then there may have been prompts
        return self._is_over[self.of_log] or self.of_log != self.current

    def use(self, signal: Signal) -> None:
        """Remember which tool and input a tool use is about."""
        if signal.tool_use_id and signal.tool:
            remember(self._tools, signal.tool_use_id, (signal.tool, signal.input))

    def hooked(self, tool_use_id: str) -> None:
        """Remember that a hook spoke of this tool use."""
        if tool_use_id:
            remember(self._by_hook, tool_use_id, None)

    def tool_of(self, signal: Signal) -> tuple[str, str]:
        """Return the tool and input that a signal is about."""
        if signal.tool:
            return signal.tool, signal.input
        return self._tools.get(signal.tool_use_id, ("", ""))

    def use_of(self, prompt: Prompt) -> str:
        """Return the id of the latest use of the tool and input of a prompt."""
        about = (prompt.tool, prompt.input)
        return next((name for name, use in reversed(self._tools.items()) if use == about), "")


def remember(known: dict[str, Value], key: str, value: Value) -> None:
    """Keep the latest things, and not more than so many."""
    known.pop(key, None)
    known[key] = value
    while len(known) > REMEMBERED:
        del known[next(iter(known))]
