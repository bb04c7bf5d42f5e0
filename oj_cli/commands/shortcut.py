"""Short forms: show, logs, cancel, suspend and resume anything by its id.

Rule: no deeds of their own; each finds what the id means and does what the long form does. The long forms are imported
inside the functions, so that the help of a short form does not load them.
"""

from __future__ import annotations

import click

from oj_cli import diagnostics
from oj_cli.context import Ctx, complete_job, pass_ctx
from oj_cli.diagnostics import ExitCode
from oj_cli.logs import log_options, print_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KINDS = (
    ("job", "JobShow"),
    ("agent", "AgentShow"),
    ("decision", "DecisionShow"),
    ("workspace", "WorkspaceShow"),
)
"""What an id may name, and the request that shows it."""


@click.command()
@click.argument("id", shell_complete=complete_job)
@click.option("-v", "--verbose", is_flag=True, help="Show values and details in full.")
@pass_ctx
def show(ctx: Ctx, id: str, verbose: bool) -> int:  # noqa: A002 - click passes by name
    """Show anything by its id: a job, an agent, a decision, a workspace."""
    found, candidates = find(ctx, id)
    exact = [entry for entry in found if entry[1]["id"] == id]
    if len(exact or found) == 1 and (exact or not candidates):
        kind, view = (exact or found)[0]
        if kind == "job":
            from oj_cli.commands.job import print_job  # noqa: PLC0415 - see the rule above

            print_job(ctx, view, verbose=verbose)
        elif kind == "agent":
            from oj_cli.commands.agent import print_agent  # noqa: PLC0415 - see the rule above

            print_agent(ctx, view)
        elif kind == "decision":
            from oj_cli.commands.decision import print_decision  # noqa: PLC0415 - see the rule above

            print_decision(ctx, view)
        else:
            from oj_cli.commands.workspace import print_workspace  # noqa: PLC0415 - see the rule above

            print_workspace(ctx, view)
        return ExitCode.OK
    if found or candidates:
        meant = [f"oj {kind} show {view['id']}" for kind, view in found]
        text = "\n  ".join([f"'{id}' is ambiguous; did you mean", *meant, *candidates])
        diagnostics.error(text, code="ambiguous", json=ctx.json)
        return ExitCode.FAILED
    diagnostics.error(
        f"no entity found matching '{id}'",
        code="not_found",
        hint="oj job list; oj agent list; oj decision list --all; oj workspace list",
        json=ctx.json,
    )
    return ExitCode.FAILED


def find(ctx: Ctx, id_: str) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """What `id_` may name: views with their kind, and what the daemon says about ambiguous ones."""
    from oj_daemon.wire.client import RemoteError  # noqa: PLC0415 - not needed for help

    found: list[tuple[str, dict[str, Any]]] = []
    candidates: list[str] = []
    with ctx.connected() as client:
        for kind, request in KINDS:
            try:
                view = client.call(request, id=id_)
                # An agent is found by its job as well, which is shown for itself.
                if kind != "agent" or view["id"].startswith(id_) or view["id"].startswith(id_, 4):
                    found.append((kind, view))
            except RemoteError as failure:
                if failure.code == "ambiguous":
                    candidates.append(f"{kind}: {failure.message}")
                elif failure.code != "not_found":
                    raise
    return found, candidates


@click.command()
@click.argument("id", shell_complete=complete_job)
@log_options("the job ends or Ctrl-C", "Only lines of this step.")
@pass_ctx
def logs(ctx: Ctx, id: str, follow: bool, limit: int, step: str | None) -> None:  # noqa: A002
    """Show the log of a job, or what an agent did."""
    from oj_daemon.wire.client import RemoteError  # noqa: PLC0415 - not needed for help

    try:
        print_log(ctx, "job", id, follow=follow, limit=limit, step=step)
    except RemoteError as failure:
        if failure.code != "not_found" or "Job not found" not in failure.message:
            raise
        try:
            print_log(ctx, "agent", id, follow=follow, limit=limit, step=step)
        except RemoteError as other:
            raise (failure if other.code == "not_found" else other) from None


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_job)
@pass_ctx
def cancel(ctx: Ctx, ids: tuple[str, ...]) -> int:
    """Cancel jobs: their steps are ended, then their clean-up runs."""
    from oj_cli.commands.job import end_jobs  # noqa: PLC0415 - see the rule above

    return end_jobs(ctx, "cancel", ids)


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_job)
@pass_ctx
def suspend(ctx: Ctx, ids: tuple[str, ...]) -> int:
    """Stop jobs so that they can be resumed; their workspaces are kept."""
    from oj_cli.commands.job import end_jobs  # noqa: PLC0415 - see the rule above

    return end_jobs(ctx, "suspend", ids)


@click.command()
@click.argument("id", required=False, shell_complete=complete_job)
@click.option("-m", "--message", help="Text for the agent that goes on.")
@click.option(
    "--var", "pairs", metavar="KEY=VALUE", multiple=True, help="Change a variable; may be repeated."
)
@click.option("--step", help="Go on at this step.")
@click.option("--all", "all_of_them", is_flag=True, help="Every job that can be resumed.")
@click.option("--kill", is_flag=True, help="Restart what still runs.")
@pass_ctx
def resume(ctx: Ctx, /, **options: Any) -> None:  # noqa: ANN401 - passed on by name
    """Carry on with a suspended or failed job."""
    from oj_cli.commands.job import resume_jobs  # noqa: PLC0415 - see the rule above

    resume_jobs(ctx, **options)
