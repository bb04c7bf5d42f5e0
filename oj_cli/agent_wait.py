"""`oj agent wait`: until an agent has finished, or a person is needed.

Rule: the daemon is asked for news of the agent's job, which tells of its agents as well, so a restart of the daemon costs
nothing. An agent whose session was replaced is the same agent: the wait goes on with the new session.
"""

from __future__ import annotations

import time

from oj_cli import diagnostics, output
from oj_cli.agent_view import why
from oj_cli.diagnostics import ExitCode
from oj_cli.watch import OutOfTime, Watch, pause, tell_lost
from oj_daemon.errors import OjError
from oj_daemon.wire.format import duration
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oj_cli.context import Ctx

    View = dict[str, Any]

OUTCOMES = {
    "completed": ExitCode.OK,
    "waiting": ExitCode.OK,
    "failed": ExitCode.FAILED,
    "gone": ExitCode.FAILED,
    "cancelled": ExitCode.CANCELLED,
    "suspended": ExitCode.SUSPENDED,
}
GRACE = 10.0
"""Seconds that an agent may stay unknown: it may be named before its job has come to it."""
GRACE_POLL = 0.25


class AgentWait:
    """One call of `oj agent wait`."""

    def __init__(self, ctx: Ctx) -> None:
        self.ctx = ctx
        self.view: View = {}
        self._told = ""

    def run(self, typed: str, seconds: float | None) -> int:
        """Wait, and return the exit code."""
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            self.view = self._find(typed, deadline)
            owner = self.view["owner"].partition(":")[2]
            with Watch(self.ctx, [owner], deadline=deadline, on_lost=tell_lost) as watch:
                while True:
                    outcome = self._outcome(watch.poll())
                    if outcome:
                        return self._finish(outcome)
        except OutOfTime:
            return self._timed_out(seconds)
        except OjError as failure:
            if failure.code != "not_found":
                raise
            diagnostics.error(
                failure.message, code=failure.code, hint=failure.hint, json=self.ctx.json
            )
            return ExitCode.NOT_FOUND

    def _find(self, typed: str, deadline: float | None) -> View:
        until = time.monotonic() + GRACE
        while True:
            try:
                return self.ctx.query("AgentShow", id=typed)
            except OjError as failure:
                if failure.code != "not_found" or time.monotonic() >= until:
                    raise
            if deadline is not None and time.monotonic() >= deadline:
                raise OutOfTime
            pause(GRACE_POLL)

    def _outcome(self, news: View) -> str:
        """How the wait ends, going by the news; empty while it goes on."""
        if news["missing"]:  # pruned meanwhile, and only what has ended is pruned
            return "completed"
        for job in news["details"]:
            found = _newest(job["agents"], self.view)
            if found is None:
                return "completed"
            if found["id"] != self.view["id"]:
                self._say(f"goes on in a new session: agent {short_id(found['id'])}")
            self.view = found
            outcome = _verdict(found, job)
            if outcome:
                return outcome
            self._say(found["status"])
        return ""

    def _say(self, text: str) -> None:
        if text != self._told and not self.ctx.json:
            self._told = text
            output.line(_title(self.view), " ", output.status(text))

    def _finish(self, outcome: str) -> int:
        if self.ctx.json:
            output.json({"outcome": outcome, "agent": output.untagged(self.view)})
            return OUTCOMES[outcome]
        reason = one_line(why(self.view))
        if outcome == "completed":
            output.line(_title(self.view), " ", output.status(outcome))
            return OUTCOMES[outcome]
        text = f"{_title(self.view)} {outcome}{f': {reason}' if reason else ''}"
        if outcome == "waiting":
            output.line(text)
        else:
            diagnostics.say(text)
        if self.view["decision_id"]:
            diagnostics.hint(f"oj decision show {short_id(self.view['decision_id'])}")
        return OUTCOMES[outcome]

    def _timed_out(self, seconds: float | None) -> int:
        if self.ctx.json:
            agent = output.untagged(self.view) if self.view else None
            output.json({"outcome": "timeout", "agent": agent})
        if self.view:
            diagnostics.say(f"{_title(self.view)} has not finished: {self.view['status']}")
        waited = duration(int((seconds or 0) * 1000))
        diagnostics.error(f"timed out after {waited}", code="timeout", hint="oj agent list")
        return ExitCode.TIMEOUT


def _newest(agents: list[View], waited_for: View) -> View | None:
    """The session that was waited for, or the newest that went on with the same step after it was gone."""
    found: View | None = None
    for agent in agents:
        is_next = found is not None and found["status"] == "gone" and agent["step"] == found["step"]
        if is_next or agent["id"] == waited_for["id"]:
            found = agent
    return found


def _verdict(agent: View, job: View) -> str:
    status = str(agent["status"])
    if status in ("completed", "failed"):
        return status
    if status == "waiting" and agent["decision_id"]:
        return "gone" if agent["state"] == "exited" else "waiting"
    if status != "gone":
        return ""
    if job["status"] in ("cancelled", "suspended"):
        return str(job["status"])
    runs = [run for run in job["steps"] if run["name"] == agent["step"]]
    # Ended from outside: whether the job is being cancelled or fails shows when it has ended.
    ended_by_us = bool(runs) and runs[-1]["status"] in ("running", "cancelled", "suspended")
    return "" if ended_by_us and not job["finished_at_ms"] else "gone"


def _title(view: View) -> str:
    return f"Agent {view['name']} ({short_id(view['id'])})"
