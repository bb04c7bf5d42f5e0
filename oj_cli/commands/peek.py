"""`oj peek`: what an agent's terminal shows.

Rule: colours pass, nothing else of what a program wrote acts on this terminal.
"""

from __future__ import annotations

import click

from oj_cli import diagnostics, output
from oj_cli.context import Ctx, complete_agent, pass_ctx
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import safe, visible, width

LONGEST = 1000
"""Columns of a screen."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@click.command()
@click.argument("id", shell_complete=complete_agent)
@pass_ctx
def peek(ctx: Ctx, id: str) -> None:  # noqa: A002 - click passes by name
    """Show an agent's screen: as it is now, or as it was last. The id may be that of its job: the newest agent."""
    print_screen(ctx, ctx.query("AgentPeek", id=id))


def print_screen(ctx: Ctx, screen: dict[str, Any]) -> None:
    """Print an AgentScreen."""
    if ctx.json:
        output.reply(screen)
        return
    short = short_id(screen["agent_id"])
    if not screen["lines"]:
        is_early = screen["status"] in ("queued", "starting")
        why = "it does not run yet" if is_early else f"it is {screen['status']}, and none was kept"
        output.line(f"There is no screen of agent {short} to show: {why}.")
        diagnostics.hint(f"oj agent show {short}; oj agent logs {short}")
        return
    how = "live" if screen["live"] else f"last screen, {screen['status']}"
    title = f" agent {short} {visible(screen['name'])} ({how}) "
    room = output.terminal().width or LONGEST
    columns = min(max(screen["cols"], width(title) + 4), room)
    has_colour = output.terminal().color and len(screen["ansi"]) == len(screen["lines"])
    rows = screen["ansi"] if has_colour else screen["lines"]
    shown = [safe(row, room, coloured=has_colour) for row in rows]
    while shown and not visible(shown[-1]).strip():
        shown.pop()
    output.line(output.muted(f"──{title}{'─' * (columns - width(title) - 2)}"))
    output.write("".join(f"{row}\n" for row in shown))
    output.line(output.muted("─" * columns))
