"""`oj project`: the projects that the daemon is busy with.

Rule: a question that has an answer even when no daemon runs, so it never fails for that.
"""

from __future__ import annotations

import click

from oj_cli import output
from oj_cli.context import Ctx, pass_ctx
from oj_daemon.errors import WireError


@click.group()
def project() -> None:
    """Projects known to the daemon."""


@project.command("list")
@pass_ctx
def list_(ctx: Ctx) -> None:
    """List projects with live jobs."""
    try:
        projects = ctx.query("ProjectList")["projects"]
    except WireError as failure:
        if failure.code != "unavailable":
            raise
        if ctx.json:
            output.json({"status": "not_running"})
        else:
            output.line("oj daemon: not running")
        return
    if ctx.project_filter is not None:
        projects = [entry for entry in projects if entry["name"] == ctx.project_filter]
    if ctx.json:
        output.json(projects)
        return
    if not projects:
        output.line("No active projects")
        return
    counts = ("active_jobs", "workers", "active_agents", "crons")
    output.table(
        ["NAME", "ROOT", "JOBS", "WORKERS", "AGENTS", "CRONS"],
        [
            [entry["name"], entry["root"], *(str(entry[field]) for field in counts)]
            for entry in projects
        ],
        right=[2, 3, 4, 5],
    )
