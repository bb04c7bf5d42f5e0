"""`oj agent`: list, show, logs, peek, attach, send, wait, kill, suspend, resume, prune.

Rule: arguments become one request, the reply becomes text or JSON; what an agent may do is decided by the daemon. Where an
id is asked for, that of the agent's job does as well: its newest agent is meant.
"""

from __future__ import annotations

import click

from oj_cli import diagnostics, interrupt, output
from oj_cli.context import Ctx, complete_agent, pass_ctx, row_limit
from oj_cli.diagnostics import ExitCode
from oj_cli.logs import log_options, print_log
from oj_daemon.errors import OjError
from oj_daemon.wire.format import now_ms, parse_duration, since
from oj_daemon.wire.names import AgentStatus, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMIT = 20
"""Rows of a list, unless asked for more."""


@click.group()
def agent() -> None:
    """Agents: who works on what, and a word with them."""


@agent.command("list")
@click.option("--job", "job", metavar="ID", help="Only agents of this job.")
@click.option("--status", "status", metavar="STATUS", help="Only agents in this status.")
@click.option(
    "-n", "limit", type=click.IntRange(1), help=f"Show at most this many (default {LIMIT})."
)
@click.option("--no-limit", is_flag=True, help="Show all.")
@pass_ctx
def list_(ctx: Ctx, job: str | None, status: str | None, limit: int | None, no_limit: bool) -> None:
    """List agents, newest first: those of jobs and those that stand alone."""
    rows = row_limit(limit, LIMIT, no_limit=no_limit)
    reply = ctx.query("AgentList", project=ctx.project_filter, job=job, status=status, limit=rows)
    agents = reply["agents"]
    if ctx.json:
        output.json([output.untagged(entry) for entry in agents])
        return
    if not agents:
        output.line("No agents found")
        if status is not None and status.lower() not in tuple(AgentStatus):
            diagnostics.hint(f"'{status}' is no status; choose from: {', '.join(AgentStatus)}")
        return
    now = now_ms()
    output.table(
        [
            "ID",
            "NAME",
            "PROJECT",
            "JOB",
            "STEP",
            "UPDATED",
            "READ",
            "WRITE",
            "CMDS",
            "STATUS",
            "WHY",
        ],
        [
            [
                output.literal(short_id(entry["id"])),
                entry["name"],
                entry["project"],
                short_id(owner_of(entry)[1]),
                entry["step"],
                since(entry["updated_at_ms"], now),
                str(entry["files_read"]),
                str(entry["files_written"]),
                str(entry["commands"]),
                output.status(entry["status"]),
                entry["detail"],
            ]
            for entry in agents
        ],
        right=[6, 7, 8],
    )
    output.hidden(reply["total"] - len(agents))


@agent.command()
@click.argument("id", shell_complete=complete_agent)
@pass_ctx
def show(ctx: Ctx, id: str) -> None:  # noqa: A002 - click passes by name
    """Show one agent: what it does, and why it is as it is."""
    print_agent(ctx, ctx.query("AgentShow", id=id))


def print_agent(ctx: Ctx, view: dict[str, Any]) -> None:
    """Print an AgentView."""
    if ctx.json:
        output.reply(view)
        return
    from oj_cli import agent_view  # noqa: PLC0415 - only for text

    output.lines(agent_view.lines(view, now_ms()))


def owner_of(view: dict[str, Any]) -> tuple[str, str]:
    """What the agent works for: `job` or `crew`, and its id."""
    kind, _, owner = view["owner"].partition(":")
    return kind, owner


@agent.command()
@click.argument("id", shell_complete=complete_agent)
@click.argument("message")
@pass_ctx
def send(ctx: Ctx, id: str, message: str) -> None:  # noqa: A002
    """Type MESSAGE into an agent's session."""
    if not message.strip():
        text = "there is nothing to send: the message is empty"
        raise OjError(text, code="invalid", hint="oj agent send ID 'please also run the tests'")
    _done(ctx, ctx.action("AgentSend", id=id, message=message), "Sent to agent")


@agent.command()
@click.argument("id", shell_complete=complete_agent)
@pass_ctx
def kill(ctx: Ctx, id: str) -> None:  # noqa: A002
    """Kill an agent's program; what its definition says about dying (`on_dead`) follows."""
    _done(ctx, ctx.action("AgentKill", id=id), "Killed agent")


def _done(ctx: Ctx, view: dict[str, Any], words: str) -> None:
    if ctx.json:
        output.reply(view)
    else:
        output.line(f"{words} {short_id(view['id'])}")


@agent.command()
@click.argument("id", shell_complete=complete_agent)
@pass_ctx
def suspend(ctx: Ctx, id: str) -> int:  # noqa: A002
    """Stop the job that an agent works for, so that both can be resumed."""
    view = ctx.query("AgentShow", id=id)
    kind, owner = owner_of(view)
    if kind == "crew":
        short = short_id(view["id"])
        text = f"cannot suspend agent {short}: it stands alone, and only jobs can be suspended"
        raise OjError(text, code="invalid", hint=f"oj cancel {short_id(owner)}")
    from oj_cli.commands.job import end_jobs  # noqa: PLC0415 - only for this verb

    return end_jobs(ctx, "suspend", (owner,))


@agent.command()
@click.argument("id", required=False, shell_complete=complete_agent)
@click.option("-m", "--message", help="What to tell it.")
@click.option("--kill", is_flag=True, help="End what still runs, and go on in a new session.")
@click.option("--all", "all_of_them", is_flag=True, help="Every agent whose session has ended.")
@pass_ctx
def resume(
    ctx: Ctx,
    id: str | None,  # noqa: A002
    message: str | None,
    kill: bool,
    all_of_them: bool,
) -> None:
    """Let an agent go on with its conversation, in a new session if the old one has ended."""
    if all_of_them:
        if id is not None:
            text = "--all cannot be combined with an id"
            raise OjError(text, code="invalid", hint="oj agent resume --all [--kill]")
        _resume_all(ctx, message, kill=kill)
        return
    if id is None:
        text = "which agent? Name one by its id, or say --all"
        raise OjError(text, code="invalid", hint="oj agent list")
    _done(ctx, ctx.action("AgentResume", id=id, message=message, kill=kill), "Resumed agent")


def _resume_all(ctx: Ctx, message: str | None, *, kill: bool) -> None:
    fields = {"message": message, "kill": kill, "project": ctx.project_filter}
    reply = ctx.action("AgentResumeAll", **fields)
    if ctx.json:
        output.reply(reply)
    elif not reply["resumed"] and not reply["skipped"]:
        output.line("No agents to resume")
    else:
        output.lines(
            [
                *(f"Resumed agent {short_id(agent_id)}" for agent_id in reply["resumed"]),
                *(
                    f"Skipped agent {short_id(agent_id)}: {reason}"
                    for agent_id, reason in reply["skipped"]
                ),
            ]
        )


@agent.command()
@click.argument("id", shell_complete=complete_agent)
@log_options("the end or Ctrl-C", "Only agents of this step.")
@pass_ctx
def logs(ctx: Ctx, id: str, follow: bool, limit: int, step: str | None) -> None:  # noqa: A002
    """Show what an agent did: files it read and wrote, commands it ran. The id of a job: all of its agents."""
    print_log(ctx, "agent", id, follow=follow, limit=limit, step=step)


@agent.command()
@click.argument("id", shell_complete=complete_agent)
@pass_ctx
def attach(ctx: Ctx, id: str) -> int:  # noqa: A002
    """Enter an agent's terminal; Ctrl-] leaves it, the agent goes on."""
    from oj_cli.commands.attach import enter  # noqa: PLC0415 - only for this verb

    return enter(ctx, id)[1]


@agent.command()
@click.argument("id", shell_complete=complete_agent)
@pass_ctx
def peek(ctx: Ctx, id: str) -> None:  # noqa: A002
    """Show an agent's screen: as it is now, or as it was last."""
    from oj_cli.commands.peek import print_screen  # noqa: PLC0415 - only for this verb

    print_screen(ctx, ctx.query("AgentPeek", id=id))


@agent.command()
@click.argument("id", shell_complete=complete_agent)
@click.option(
    "--timeout", metavar="DURATION", help="Give up after this long (30s, 5m, 1h30m): exit code 2."
)
@pass_ctx
def wait(ctx: Ctx, id: str, timeout: str | None) -> int:  # noqa: A002
    """Wait until an agent has finished, or needs somebody.

    Exit code: 0 completed or waiting for a person, 1 failed or its session is gone, 2 timeout, 3 not found, 4 its job was
    cancelled, 130 interrupted.
    """
    with interrupt.exits(ExitCode.INTERRUPTED):
        from oj_cli.agent_wait import AgentWait  # noqa: PLC0415 - only for this verb

        seconds = None if timeout is None else parse_duration(timeout)
        return AgentWait(ctx).run(id, seconds)


@agent.command()
@click.option(
    "--all", "any_age", is_flag=True, help="Of any age, not only those that ended 24 hours ago."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@pass_ctx
def prune(ctx: Ctx, any_age: bool, dry_run: bool) -> None:
    """Forget the agents of jobs that have ended; the jobs stay."""
    request = {"all": any_age, "dry_run": dry_run, "project": ctx.project_filter}
    output.pruned("agent", ctx.action("AgentPrune", **request), json_wanted=ctx.json)
