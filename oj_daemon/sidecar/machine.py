"""Signals by trust -> the state of the agent; hooks, answers, nudges and deadlines.

Rule: pure. `handle(input, now)` is the only door; it returns what to do, in order. Nothing here reads a clock, and
nothing outside changes what is in here. The decisions about an agent are the daemon's: this only knows and reports.
"""

from __future__ import annotations

from oj_daemon.drivers.base import AgentState, Driver, Json, Prompt, Usage
from oj_daemon.sidecar.values import Input, Output, Timing


class Machine:
    """The state of one agent. Starts in `starting`; give it ChildStarted when the program runs."""

    def __init__(self, driver: Driver, timing: Timing, stop: Json, start: Json) -> None:
        """`stop` and `start` are the sections of the agent configuration file; Rejected when they make no sense."""
        self.driver = driver
        self.timing = timing
        self.state = AgentState.STARTING
        self.seq = 0
        self.epoch = 0
        self.is_ready = False
        self.prompt: Prompt | None = None
        self.usage = Usage()
        self.last_message: str | None = None
        self.session_id = ""
        self.transcript_path = ""

    def handle(self, what: Input, now: int) -> list[Output]:
        """Take in what happened at `now` (monotonic milliseconds) and return what to do."""
        raise NotImplementedError

    def view(self) -> dict[str, object]:
        """Return the body of GET agent (plus `idle_pending`), without screen_seq and the name of the agent."""
        raise NotImplementedError

    def snapshot(self) -> Output:
        """Return the synthetic transition for a new subscriber."""
        raise NotImplementedError
