"""What agents did: the last lines of their logs, and what is added to them.

Rule: the daemon is asked, never the file system; reading goes on at the byte offset of each log, so no line is lost and none
is shown twice, also when the daemon is replaced meanwhile.
"""

from __future__ import annotations

from select import select

from oj_cli import diagnostics, output
from oj_cli.logs import lines_of
from oj_cli.watch import insist, tell_lost
from oj_daemon.wire.names import short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oj_cli.context import Ctx
    from oj_daemon.wire.client import Client

    Log = dict[str, Any]


def show(ctx: Ctx, ref: str, *, limit: int, step: str | None) -> None:
    """Print the last lines; of a job those of all its agents, each under a heading."""
    logs = _whole(ctx, ref, limit=limit, step=step)
    if ctx.json:
        keys = ("agent_id", "name", "step", "log_path")
        every = [
            {**{key: log[key] for key in keys}, "lines": lines_of(log["content"])} for log in logs
        ]
        first = every[0]["log_path"] if every else None
        lines = [line for log in every for line in log["lines"]]
        output.json({"log_path": first, "lines": lines, "logs": every})
        return
    printer = _Printer(has_headings=_is_job(ref, logs))
    for log in logs:
        printer.take(log)
    printer.finish()
    if not any(log["content"] for log in logs):
        diagnostics.say(f"No log entries found for agent {ref}{f', step {step}' if step else ''}")


def _whole(ctx: Ctx, ref: str, *, limit: int, step: str | None) -> list[Log]:
    """What was asked for, however many replies that takes."""
    with ctx.connected() as client:
        logs = client.call("AgentLogs", id=ref, lines=limit or None, step=step)["logs"]
        texts = {log["agent_id"]: [log["content"]] for log in logs}
        unread = {log["agent_id"]: log["offset"] for log in logs if log.get("has_more")}
        while unread:
            for more in client.call("AgentLogs", id=ref, lines=None, step=step, offsets=unread)[
                "logs"
            ]:
                agent_id = more["agent_id"]
                if unread.pop(agent_id, None) is None:
                    continue  # told whole already, or come meanwhile
                texts[agent_id].append(more["content"])
                if more.get("has_more"):
                    unread[agent_id] = more["offset"]
    return [{**log, "content": "".join(texts[log["agent_id"]])} for log in logs]


def follow(ctx: Ctx, ref: str, *, limit: int, step: str | None) -> None:
    """Print the last lines and then what is added, until nothing will be."""
    offsets: dict[str, int] = {}
    printer: _Printer | None = None
    lines: int | None = limit or None

    def ask(client: Client) -> dict[str, Any]:
        return client.call("AgentLogs", id=ref, lines=lines, step=step, offsets=dict(offsets))

    while True:
        reply = insist(ctx, ask, was_there=printer is not None, on_lost=tell_lost)
        if printer is None:
            printer = _Printer(has_headings=_is_job(ref, reply["logs"]))
            if not any(log["content"] for log in reply["logs"]):
                diagnostics.say(f"No log entries found for agent {ref} yet")
        lines = None  # an agent that comes later is told from its beginning
        for log in reply["logs"]:
            offsets[log["agent_id"]] = log["offset"]
            printer.take(log)
        has_news = any(log["content"] for log in reply["logs"])
        if reply["is_over"] and not has_news:
            printer.finish()
            return
        if not has_news:
            select([], [], [], ctx.settings.log_poll_ms / 1000)


class _Printer:
    """Prints whole lines, with a heading where another log goes on than before."""

    def __init__(self, *, has_headings: bool) -> None:
        self._has_headings = has_headings
        self._last = ""
        self._rest: dict[str, str] = {}

    def take(self, log: Log) -> None:
        """Print what is new and complete in one log."""
        agent_id = log["agent_id"]
        if log["restarted"]:
            diagnostics.warn("the log was cut short meanwhile; reading on from its beginning")
            self._rest.pop(agent_id, None)
        text = self._rest.get(agent_id, "") + log["content"]
        whole, newline, rest = text.rpartition("\n")
        self._rest[agent_id] = rest
        if newline or (agent_id != self._last and not self._last):
            self._head(log)
        if newline:
            output.block(whole + newline)

    def finish(self) -> None:
        """Print last lines that have no end."""
        for rest in self._rest.values():
            if rest:
                output.block(rest)

    def _head(self, log: Log) -> None:
        if self._has_headings and log["agent_id"] != self._last:
            lead = "" if not self._last else "\n"
            title = f"{log['step']}: agent {log['name']} {short_id(log['agent_id'])}"
            output.write(lead)
            output.line(output.header(f"== {title} =="))
        self._last = log["agent_id"]


def _is_job(ref: str, logs: list[Log]) -> bool:
    """Whether the id names a job: then each log gets a heading, even when there is one only."""
    return not any(log["agent_id"].startswith((ref, f"agt-{ref}")) for log in logs)
