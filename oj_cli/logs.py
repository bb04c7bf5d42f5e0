"""What every `logs` takes, and whether it reads once or goes on.

Rule: a log is read by oj_cli/job_log.py or oj_cli/agent_log.py; they are imported only when one is.
"""

from __future__ import annotations

import click

from oj_cli import diagnostics, interrupt
from oj_cli.diagnostics import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeVar

    from oj_cli.context import Ctx

    F = TypeVar("F", bound=Callable[..., Any])

TAIL = 50
"""Lines of a log, unless asked for more."""


def log_options(until: str, step: str) -> Callable[[F], F]:
    """`-f`, `-n` and `-s`: until when `-f` follows, and what `-s` chooses."""
    options = (
        click.option(
            "-f", "--follow", is_flag=True, help=f"Go on with what is added, until {until}."
        ),
        click.option(
            "-n",
            "limit",
            type=click.IntRange(0),
            default=TAIL,
            help=f"Last lines (default {TAIL}); 0: all.",
        ),
        click.option("-s", "--step", help=step),
    )

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def lines_of(text: str) -> list[str]:
    """The lines of a log; `splitlines` would also split at characters that mean nothing here."""
    return text.removesuffix("\n").split("\n") if text else []


def print_log(  # noqa: PLR0913 - the words of a command line
    ctx: Ctx,
    of: Literal["job", "agent"],
    ref: str,
    *,
    follow: bool,
    limit: int,
    step: str | None,
) -> None:
    """Print the last lines of a log, and follow it if asked."""
    if follow and ctx.json:
        diagnostics.warn("-f is ignored with JSON output")
        follow = False
    if of == "job":
        from oj_cli import job_log as log  # noqa: PLC0415 - see the rule above
    else:
        from oj_cli import agent_log as log  # type: ignore[no-redef]  # noqa: PLC0415 - the same
    if not follow:
        log.show(ctx, ref, limit=limit, step=step)
        return
    with interrupt.exits(ExitCode.OK):
        log.follow(ctx, ref, limit=limit, step=step)
