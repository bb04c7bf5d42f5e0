"""The log of a daemon on another machine, as far as that keeps it in memory.

Rule: what it wrote down is read on its own machine; here are its last lines, in its own words.
"""

from __future__ import annotations

from oj_cli import diagnostics, interrupt, output
from oj_cli.diagnostics import ExitCode
from oj_cli.logs import lines_of
from oj_cli.watch import insist, pause, tell_lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oj_cli.context import Ctx
    from oj_daemon.wire.client import Client


def show(ctx: Ctx, *, limit: int | None, follow: bool) -> None:
    """Print the last lines, and go on with what is added."""
    log = ctx.query("DaemonLogs", lines=limit)
    if ctx.json:
        if follow:
            diagnostics.warn("-f is ignored with -o json")
        output.json({"log_path": "", "lines": lines_of(log["content"])})
        return
    output.block(log["content"])
    if not follow:
        return

    def ask(client: Client) -> dict[str, Any]:
        return client.call("DaemonLogs", offset=log["offset"])

    with interrupt.exits(ExitCode.OK):
        while True:
            pause(ctx.settings.log_poll_ms / 1000)
            log = insist(ctx, ask, was_there=True, on_lost=tell_lost)
            output.block(log["content"])
