"""`oj decision`: list, show, resolve, review, reopen.

Rule: arguments become one request, the reply becomes text or JSON; whether an answer fits is decided by the daemon.
"""

from __future__ import annotations

import sys

import click

from oj_cli import diagnostics, output
from oj_cli.context import Ctx, complete_decision, pass_ctx
from oj_cli.diagnostics import ExitCode
from oj_daemon.errors import OjError
from oj_daemon.wire.format import now_ms, since
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME_WIDTH = 18
SUMMARY_WIDTH = 50


@click.group()
def decision() -> None:
    """Decisions: what agents need a person for."""


@decision.command("list")
@click.option("--all", "closed", is_flag=True, help="Also those that are no longer open.")
@pass_ctx
def list_(ctx: Ctx, closed: bool) -> None:
    """List open decisions, newest first."""
    every = ctx.query("DecisionList", project=ctx.project_filter, all=closed)["decisions"]
    if ctx.json:
        output.json([output.untagged(entry) for entry in every])
        return
    if not every:
        output.line("No decisions" if closed else "No pending decisions")
        return
    from oj_daemon.wire import answers  # noqa: PLC0415 - only for text

    now = now_ms()
    is_due = any(entry["deadline_at_ms"] and entry["status"] == "open" for entry in every)
    headers = ["ID", "PROJECT", "AGENT", "AGE", "SOURCE", *(["DEADLINE"] if is_due else [])]
    output.table(
        [*headers, *(["STATUS"] if closed else []), "SUMMARY"],
        [
            [
                output.literal(short_id(entry["id"])),
                entry["project"],
                cut(answers.owner_name(entry), NAME_WIDTH),
                since(entry["created_at_ms"], now),
                entry["source"],
                *([answers.deadline(entry, now) or "-"] if is_due else []),
                *([output.status(entry["status"])] if closed else []),
                cut(entry["summary"], SUMMARY_WIDTH),
            ]
            for entry in every
        ],
    )


@decision.command()
@click.argument("id", shell_complete=complete_decision)
@pass_ctx
def show(ctx: Ctx, id: str) -> None:  # noqa: A002 - click passes by name
    """Show one decision: what is asked, and what can be answered."""
    print_decision(ctx, ctx.query("DecisionShow", id=id))


def print_decision(ctx: Ctx, view: dict[str, Any]) -> None:
    """Print a DecisionView."""
    if ctx.json:
        output.reply(view)
        return
    from oj_cli import decide  # noqa: PLC0415 - only for text

    output.lines(decide.lines(view, now_ms()))


@decision.command()
@click.argument("id", shell_complete=complete_decision)
@click.argument("choices", metavar="[N]...", nargs=-1)
@click.option("-m", "--message", default="", help="Text for the agent; alone, it is the answer.")
@pass_ctx
def resolve(ctx: Ctx, id: str, choices: tuple[str, ...], message: str) -> None:  # noqa: A002
    """Answer a decision by the number of an option.

    Where several questions are asked, give one number for each; where a question takes several answers, join their
    numbers by commas: `oj decision resolve ID 2 1,3`.
    """
    from oj_cli import decide  # noqa: PLC0415 - not for help

    answer = decide.Answer([decide.numbers(word) for word in choices], message)
    reply = ctx.action("DecisionResolve", **decide.fields(id, answer))
    if ctx.json:
        output.reply(reply)
    else:
        output.line(f"Resolved decision {short_id(reply['id'])}")


@decision.command()
@click.argument("id", shell_complete=complete_decision)
@pass_ctx
def reopen(ctx: Ctx, id: str) -> None:  # noqa: A002
    """Open a decision again that was dismissed."""
    reply = ctx.action("DecisionReopen", id=id)
    if ctx.json:
        output.reply(reply)
    else:
        output.line(f"Reopened decision {short_id(reply['id'])}")


@decision.command()
@pass_ctx
def review(ctx: Ctx) -> int:
    """Go through all open decisions, oldest first, and answer them one after the other."""
    if ctx.json:
        text = "cannot review as JSON: a review is a talk with a person"
        raise OjError(
            text, code="invalid", hint="oj decision list -o json; oj decision resolve ID N"
        )
    if sys.stdin is None or not sys.stdin.isatty():
        text = "cannot review: standard input is not a terminal"
        raise OjError(text, code="invalid", hint="oj decision list; oj decision resolve ID N")
    from oj_cli import decide  # noqa: PLC0415 - not for help

    every = ctx.query("DecisionList", project=ctx.project_filter)["decisions"]
    if not every:
        output.line("No pending decisions")
        return ExitCode.OK
    resolved = skipped = 0
    for at, view in enumerate(reversed(every), 1):
        output.lines([[], [output.muted(f"── {at} of {len(every)} ──")]])
        output.lines(decide.lines(view, now_ms(), with_hint=False))
        answer = decide.ask(view)
        if answer is decide.QUIT:
            skipped += len(every) - at + 1
            break
        if answer is decide.SKIP:
            skipped += 1
            continue
        try:
            ctx.action("DecisionResolve", **decide.fields(view["id"], answer))
        except OjError as failure:
            # Someone else may have been faster; the others are still to be decided.
            diagnostics.error(failure.message, hint=failure.hint)
            skipped += 1
            continue
        output.line(f"Resolved decision {short_id(view['id'])}")
        resolved += 1
    output.lines([[], f"{resolved} resolved, {skipped} skipped"])
    return ExitCode.OK
