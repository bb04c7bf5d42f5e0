"""`oj workspace`: list, show, drop, prune.

Rule: arguments become one request, the reply becomes text or JSON; what may be deleted is decided by the daemon.
"""

from __future__ import annotations

import time

import click

from oj_cli import diagnostics, output
from oj_cli.context import Ctx, pass_ctx, row_limit
from oj_cli.watch import pause
from oj_daemon.errors import OjError
from oj_daemon.wire.format import moment
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMIT = 20
"""Rows of a list, unless asked for more."""
REMOVAL_SECONDS = 10.0
"""How long `drop` waits for the folders to be gone."""
REMOVAL_POLL = 0.2


@click.group()
def workspace() -> None:
    """The folders that jobs work in."""


@workspace.command("list")
@click.option(
    "-n", "limit", type=click.IntRange(1), help=f"Show at most this many (default {LIMIT})."
)
@click.option("--no-limit", is_flag=True, help="Show all.")
@pass_ctx
def list_(ctx: Ctx, limit: int | None, no_limit: bool) -> None:
    """List workspaces, newest first."""
    rows = row_limit(limit, LIMIT, no_limit=no_limit)
    reply = ctx.query("WorkspaceList", project=ctx.project_filter, limit=rows)
    workspaces = reply["workspaces"]
    if ctx.json:
        output.json([output.untagged(entry) for entry in workspaces])
        return
    if not workspaces:
        output.line("No workspaces")
        return
    # Most have nothing to explain.
    reason = ["REASON"] if any(entry["reason"] for entry in workspaces) else []
    output.table(
        ["ID", "PROJECT", "PATH", "BRANCH", "STATUS", *reason],
        [
            [
                output.literal(short_id(entry["id"])),
                entry["project"],
                entry["path"],
                entry["branch"] or "-",
                output.status(entry["status"]),
                *([one_line(entry["reason"])] if reason else []),
            ]
            for entry in workspaces
        ],
    )
    output.hidden(reply["total"] - len(workspaces))


@workspace.command()
@click.argument("id")
@pass_ctx
def show(ctx: Ctx, id: str) -> None:  # noqa: A002 - click passes by name
    """Show one workspace."""
    print_workspace(ctx, ctx.query("WorkspaceShow", id=id))


def print_workspace(ctx: Ctx, view: dict[str, Any]) -> None:
    """Print a WorkspaceView."""
    if ctx.json:
        output.reply(view)
        return
    is_far = ctx.settings.daemon_url is not None
    owner = view["owner"] + (f" ({view['owner_status']})" if view["owner_status"] else "")
    fields: list[tuple[str, output.Text]] = [
        ("Workspace", output.literal(view["id"])),
        ("Path", view["path"] + (" (on the daemon's machine)" if is_far else "")),
        ("Branch", view["branch"]),
        ("Kind", view["kind"]),
        ("Owner", owner),
        ("Project", view["project"]),
        ("Status", output.status(view["status"])),
        ("Reason", one_line(view["reason"].strip())),
        ("Created", moment(view["created_at_ms"])),
    ]
    output.fields(fields)


@workspace.command()
@click.argument("id", required=False)
@click.option(
    "--failed", is_flag=True, help="Those of failed jobs, and those that could not be made."
)
@click.option("--all", "all_of_them", is_flag=True, help="All whose owner is finished.")
@click.option(
    "--force",
    is_flag=True,
    help="Also those whose owner is not finished, or that hold work which is nowhere else.",
)
@pass_ctx
def drop(ctx: Ctx, id: str | None, failed: bool, all_of_them: bool, force: bool) -> int:  # noqa: A002
    """Delete workspaces, with everything in them.

    Of several, a clone that holds work which was not pushed is kept; named by its id, it goes.
    """
    if sum((id is not None, failed, all_of_them)) != 1:
        text = "which workspace? Name one by its id, or say --failed or --all"
        raise OjError(text, code="invalid", hint="oj workspace list")
    reply = ctx.action(
        "WorkspaceDrop",
        id=id,
        failed=failed,
        all=all_of_them,
        force=force,
        project=ctx.project_filter,
    )
    if ctx.json:
        output.json(
            {
                **output.untagged(reply),
                "dropped": [output.untagged(one) for one in reply["dropped"]],
            }
        )
    elif not reply["dropped"] and not reply["skipped"]:
        output.line("No workspaces deleted")
    else:
        output.lines(
            f"Dropping workspace {view['id']} ({view['path']})" for view in reply["dropped"]
        )
        output.lines(
            f"Skipped workspace {skipped}: {reason}" for skipped, reason in reply["skipped"]
        )
        if reply["dropped"]:
            _await_removal(ctx, {view["id"] for view in reply["dropped"]})
    return (
        diagnostics.ExitCode.FAILED
        if id is not None and reply["skipped"]
        else diagnostics.ExitCode.OK
    )


def _why_it_stays(view: dict[str, Any]) -> str:
    if view["status"] != "kept":
        return str(view["reason"])
    return f"{view['reason']}; to remove it: oj workspace drop {short_id(view['id'])}"


def _await_removal(ctx: Ctx, left: set[str]) -> None:
    """Wait until the folders are gone and say so; Ctrl-C only ends the wait."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    failed: dict[str, str] = {}
    try:
        with ctx.client() as client:
            while left and time.monotonic() < deadline:
                reply = client.call("WorkspaceList", project=None, limit=None)
                known = {view["id"]: view for view in reply["workspaces"]}
                failed.update(
                    (id_, _why_it_stays(known[id_]))
                    for id_ in left
                    if known.get(id_, {}).get("status") in ("failed", "kept")
                )
                left = {id_ for id_ in left if id_ in known and id_ not in failed}
                if left:
                    pause(REMOVAL_POLL)
    except KeyboardInterrupt:
        diagnostics.say("The daemon goes on deleting.")
        return
    for id_, reason in failed.items():
        diagnostics.warn(f"could not delete workspace {id_}: {reason}")
    if left:
        diagnostics.say(f"Still being deleted: {', '.join(sorted(left))}")
    elif not failed:
        output.line("Deleted")


@workspace.command()
@click.option(
    "--all", "any_age", is_flag=True, help="Of any age, not only those older than 12 hours."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@pass_ctx
def prune(ctx: Ctx, any_age: bool, dry_run: bool) -> None:
    """Delete workspaces of finished jobs, and folders that no job claims."""
    request = {"all": any_age, "dry_run": dry_run, "project": ctx.project_filter}
    output.pruned("workspace", ctx.action("WorkspacePrune", **request), json_wanted=ctx.json)
