"""`oj events`: what happened, fact by fact.

Rule: the daemon's log is the truth, and this shows it: every fact once, in order, also across a restart of the daemon. Where
the log no longer holds what was asked for, that is said.
"""

from __future__ import annotations

import click

from oj_cli import diagnostics, interrupt, output
from oj_cli.context import Ctx, complete_job, pass_ctx
from oj_cli.diagnostics import ExitCode
from oj_cli.watch import Watch, insist, tell_lost
from oj_daemon.wire.format import moment
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oj_daemon.wire.client import Client

LAST = 50
"""Facts that are shown, unless asked for more."""
WIDEST = 100
"""Columns of a fact's data, without -v."""
ALL = 100_000
"""More than the log ever holds: a snapshot drops the older ones."""


@click.command()
@click.argument("id", required=False, shell_complete=complete_job)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option(
    "-n",
    "limit",
    type=click.IntRange(0),
    default=LAST,
    help=f"Last facts (default {LAST}); 0: all.",
)
@click.option(
    "--since", type=click.IntRange(0), metavar="SEQ", help="Facts after this number instead."
)
@click.option(
    "-t", "--type", "types", metavar="NOUN[:ACTION]", multiple=True, help="Only facts of this kind."
)
@click.option("-v", "--verbose", is_flag=True, help="All of each fact's data.")
@pass_ctx
def events(
    ctx: Ctx,
    *,
    id: str | None,  # noqa: A002 - click passes by name
    follow: bool,
    limit: int,
    since: int | None,
    types: tuple[str, ...],
    verbose: bool,
) -> None:
    """Show what happened, fact by fact; with an ID only what is about that job."""
    printer = _Printer(ctx, types, verbose=verbose)
    printer.after = since or 0
    if id is not None:

        def ask(client: Client) -> dict[str, Any]:
            return client.call("JobShow", id=id)

        printer.job_id = insist(ctx, ask)["id"]
    # Of a filtered listing the last ones are wanted that pass the filter, so all have to be looked at.
    wanted = limit if limit and not types and id is None and since is None else ALL
    with (
        interrupt.exits(ExitCode.OK),
        Watch(
            ctx,
            nouns=["fact"],
            project=ctx.project_filter,
            since=since or 0,
            limit=wanted,
            on_lost=tell_lost,
        ) as watch,
    ):
        news = watch.poll(0)
        shown = printer.chosen(news)
        if since is None and limit:
            shown = shown[-limit:]
        printer.show(shown, is_gapless=news["is_gapless"])
        # A page may hold no fact that this token, or this project, is told of: the end is where nothing goes on.
        before = since
        while follow or (before is not None and news["seq"] > before):
            before = news["seq"]
            news = watch.poll() if follow else watch.poll(0)
            printer.show(printer.chosen(news), is_gapless=news["is_gapless"])
    if not follow and not printer.is_used and not ctx.json:
        diagnostics.say("Nothing has happened that the log still holds.")


class _Printer:
    """Prints facts as they come."""

    def __init__(self, ctx: Ctx, types: tuple[str, ...], *, verbose: bool) -> None:
        self.job_id = ""
        """The only job whose facts are shown; empty: every one."""
        self.after = 0
        """Number after which facts are shown; where the log has not come to it yet, the daemon tells all."""
        self.is_used = False
        self._json = ctx.json
        self._types = types
        self._verbose = verbose

    def chosen(self, news: dict[str, Any]) -> list[dict[str, Any]]:
        """The facts that were asked for."""
        return [fact for fact in news["facts"] if self._wants(fact)]

    def show(self, facts: list[dict[str, Any]], *, is_gapless: bool) -> None:
        """Print them."""
        if not is_gapless:
            diagnostics.warn("what happened before is no longer in the log")
        self.is_used = self.is_used or bool(facts)
        for fact in facts:
            if self._json:
                output.json_line(fact)
            else:
                output.line(*self._parts(fact))

    def _wants(self, fact: dict[str, Any]) -> bool:
        if fact["seq"] <= self.after or (self.job_id and fact["job_id"] != self.job_id):
            return False
        tag = str(fact["fact"])
        noun = tag.partition(":")[0]
        return not self._types or tag in self._types or noun in self._types

    def _parts(self, fact: dict[str, Any]) -> list[output.Text]:
        from json import dumps  # noqa: PLC0415 - not for JSON, which output makes

        data = dumps(fact["data"], ensure_ascii=False)
        return [
            f"{fact['seq']:>6}  {moment(fact['at_ms'])}  ",
            output.literal(f"{short_id(fact['job_id']) if fact['job_id'] else '':8}"),
            "  ",
            output.header(f"{fact['fact']:<20}"),
            "  ",
            output.context(data if self._verbose else cut(data, WIDEST)),
        ]
