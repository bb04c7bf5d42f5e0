"""`oj tui`: the live view.

Rule: the only place where the two front ends meet. What is wrong with the terminal or the words typed is said before the view
takes the screen.
"""

from __future__ import annotations

import click

from oj_cli.context import Ctx, pass_ctx


@click.command()
@pass_ctx
def tui(ctx: Ctx) -> None:
    """Watch jobs, agents and decisions live, and act on them."""
    from oj_tui.app import OjApp  # noqa: PLC0415 - 300 ms, for this command alone
    from oj_tui.crash import CrashLog  # noqa: PLC0415 - the same
    from oj_tui.feed import DaemonFeed  # noqa: PLC0415 - the same

    crashes = CrashLog(ctx.settings.state_dir / "logs")
    OjApp(DaemonFeed(ctx.settings), project=ctx.project_filter, crashes=crashes).run()
