"""`oj attach`: sit down at an agent's terminal.

Rule: everything that can be wrong is said before the terminal is touched; what happened is said after it is back. Leaving
(Ctrl-]) never disturbs the agent.
"""

from __future__ import annotations

from select import select

import click

from oj_cli import diagnostics
from oj_cli.context import Ctx, complete_agent, pass_ctx
from oj_cli.diagnostics import ExitCode
from oj_daemon.errors import OjError
from oj_daemon.wire.names import TERMINAL, short_id
from oj_daemon.wire.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oj_cli.terminal import Ending, Line

LIVE = ("running", "waiting")
POLL_SECONDS = 0.2


@click.command()
@click.argument("id", shell_complete=complete_agent)
@pass_ctx
def attach(ctx: Ctx, id: str) -> int:  # noqa: A002 - click passes by name
    """Enter an agent's terminal; Ctrl-] leaves it, the agent goes on. The id may be that of its job: the newest agent."""
    return enter(ctx, id)[1]


def enter(ctx: Ctx, ref: str) -> tuple[Ending, int]:
    """Attach to one agent; how it ended, and the exit code for that."""
    from oj_cli import terminal  # noqa: PLC0415 - imports termios; only for this verb

    terminal.check()
    if ctx.json:
        text = "an agent's terminal cannot be shown as JSON"
        raise OjError(text, code="invalid", hint=f"oj peek {ref} -o json")
    agent_id, line = _connect(ctx, ref)
    short = short_id(agent_id)
    diagnostics.say(f"Attached to agent {short}; Ctrl-] leaves it.")
    ending = terminal.lend(line, lambda: _connect(ctx, agent_id)[1])
    return ending, _tell(ending, short)


def _connect(ctx: Ctx, ref: str) -> tuple[str, Line]:
    from oj_cli import terminal  # noqa: PLC0415 - as above

    cols, rows = terminal.size()
    client = ctx.client()
    try:
        reply = client.call("AgentAttach", id=ref, cols=cols, rows=rows)
    except BaseException:
        client.close()
        raise
    return reply["agent_id"], terminal.Line(*client.give_away())


def _tell(ending: Ending, short: str) -> int:
    match ending.kind:
        case "left":
            diagnostics.say(f"Detached from agent {short}; it goes on.")
            return ExitCode.OK
        case "ended":
            how = "" if ending.code is None else f" with exit code {ending.code}"
            if ending.signal is not None:
                how = f", killed by signal {ending.signal}"
            diagnostics.say(f"Agent {short} has ended{how}.")
            return ExitCode.OK
        case "closed":
            diagnostics.say(f"Agent {short}: {one_line(ending.reason)}.")
            return ExitCode.OK
        case _:
            diagnostics.error(
                f"lost the daemon: {ending.reason}",
                code="unavailable",
                hint=f"the agent goes on; oj attach {short}",
            )
            return ExitCode.FAILED


def await_agent(ctx: Ctx, job_id: str) -> str | None:
    """The first agent of a job that can be attached to; None when the job has ended without one."""
    with ctx.connected() as client:
        while True:
            job = client.call("JobShow", id=job_id)
            agents = client.call("AgentList", job=job_id, limit=None)["agents"]
            for agent in reversed(agents):
                if agent["status"] in LIVE:
                    return str(agent["id"])
            if job["status"] in TERMINAL:
                return None
            select([], [], [], POLL_SECONDS)
