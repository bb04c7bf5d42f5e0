"""`oj tui`: the live view.

Rule: the only place where the two front ends meet. What is wrong with the terminal or the words typed is said before the view
takes the screen.
"""

from __future__ import annotations

import os
import re
import sys

import click

from oj_cli.context import Ctx, complete_job, pass_ctx
from oj_cli.diagnostics import ExitCode
from oj_daemon.errors import OjError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

SIZE = "120x36"
SMALLEST, LARGEST = 20, 500


@click.command()
@click.argument("what", required=False, default="overview", shell_complete=complete_job)
@click.option("--screenshot", metavar="FILE.svg", help="Write a picture of it, and show nothing.")
@click.option(
    "--size", metavar="COLSxROWS", default=SIZE, help=f"Size of the picture (default {SIZE})."
)
@click.option("--light", is_flag=True, help="Begin with dark text on light ground.")
@pass_ctx
def tui(ctx: Ctx, *, what: str, screenshot: str | None, size: str, light: bool) -> int:
    """Watch jobs, agents and decisions live, and act on them.

    WHAT is where to begin: overview, jobs, agents, decisions, daemon, or the id of a job, an agent or a decision.
    """
    cells = _cells(size)
    if screenshot is None:
        _check_terminal(ctx)
    mode, opened = _begin(ctx, what)
    from oj_tui.app import LIGHT, OjApp  # noqa: PLC0415 - 300 ms, for this command alone
    from oj_tui.crash import CrashLog  # noqa: PLC0415 - the same
    from oj_tui.feed import DaemonFeed  # noqa: PLC0415 - the same

    app = OjApp(
        DaemonFeed(ctx.settings),
        project=ctx.project_filter,
        start=mode,
        opened=opened,
        crashes=CrashLog(ctx.settings.state_dir / "logs"),
    )
    if light:
        app.theme = LIGHT
    if screenshot is not None:
        from oj_tui import screenshot as pictures  # noqa: PLC0415 - only for a picture

        pictures.take(app, _path(ctx, screenshot), size=cells)
        return ExitCode.OK
    app.run()
    return app.return_code or ExitCode.OK


def _check_terminal(ctx: Ctx) -> None:
    """Raise where nobody could see it."""
    if ctx.json:
        text = "the live view cannot be shown as JSON"
        hint = "oj status --watch -o json; oj events -f -o json"
        raise OjError(text, code="invalid", hint=hint)
    for stream, name in ((sys.stdin, "standard input"), (sys.stdout, "standard output")):
        if stream is None or not stream.isatty():
            text = f"cannot show the live view: {name} is not a terminal"
            hint = "oj status --watch; oj tui --screenshot FILE.svg"
            raise OjError(text, code="invalid", hint=hint)
    if ctx.settings.is_dumb_terminal:
        text = "cannot show the live view: this terminal cannot move its cursor, says TERM"
        raise OjError(text, code="invalid", hint="oj status --watch")


def _cells(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", size)
    cols, rows = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (SMALLEST <= cols <= LARGEST and 5 <= rows <= LARGEST):
        message = f"'{size}' is no size: write it like {SIZE}"
        raise click.UsageError(message, click.get_current_context())
    return cols, rows


def _begin(ctx: Ctx, what: str) -> tuple[str, str]:
    """Where to begin: a mode, and the full id of what is opened there."""
    from oj_tui.jump import MODES, WORDS  # noqa: PLC0415 - as above, without the library

    kind, mode = WORDS.get(what, ("", ""))
    if kind == "mode":
        return mode, ""
    from oj_cli.commands.shortcut import find  # noqa: PLC0415 - only for an id

    found, candidates = find(ctx, what)
    shown = [view for kind, view in found if kind != "workspace"]
    exact = [view for view in shown if view["id"] == what]
    if len(exact or shown) == 1 and (exact or not candidates):
        full = str((exact or shown)[0]["id"])
        return {"agt-": "agents", "dec-": "decisions"}.get(full[:4], "jobs"), full
    if shown or candidates:
        meant = [f"oj tui {view['id']}" for view in shown]
        text = "\n  ".join([f"'{what}' is ambiguous; did you mean", *meant, *candidates])
        raise OjError(text, code="ambiguous")
    text = f"no entity found matching '{what}'"
    raise OjError(text, code="not_found", hint=f"one of {', '.join(MODES)}, or an id: oj job list")


def _path(ctx: Ctx, name: str) -> Path:
    if not name.endswith(".svg"):
        message = f"'{name}' is no name of a picture: it has to end in .svg"
        raise click.UsageError(message, click.get_current_context())
    return ctx.invoke_dir / os.path.expanduser(name)  # noqa: PTH111 - joined to a path below
