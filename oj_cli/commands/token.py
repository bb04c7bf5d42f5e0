"""`oj token`: create, list, revoke.

Rule: arguments become one request, the reply becomes text or JSON. The token itself is printed once, alone on stdout, so that
a script can take it; everything that is said about it goes to stderr.
"""

from __future__ import annotations

import click

from oj_cli import diagnostics, output
from oj_cli.context import Ctx, complete_token, pass_ctx
from oj_daemon.errors import OjError
from oj_daemon.wire.format import moment, now_ms, parse_duration, since
from oj_daemon.wire.names import Verb, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXPIRES = "30d"
VERBS = "read,run"


@click.group()
def token() -> None:
    """Tokens: what lets people and programs on other machines in, and how far.

    Steps and agents get tokens of their own, which end with them; those are not listed here.
    """


@token.command()
@click.option(
    "--verbs",
    default=VERBS,
    show_default=True,
    metavar="VERB,...",
    help=f"What it may do: {', '.join(Verb)}.",
)
@click.option(
    "--expires",
    default=EXPIRES,
    show_default=True,
    metavar="TIME",
    help="How long it is good for: 12h, 7d.",
)
@click.option("--name", default="", help="What it is for; shown in lists and with its answers.")
@pass_ctx
def create(ctx: Ctx, verbs: str, expires: str, name: str) -> None:
    """Make a token, and print it: it is never shown again.

    With `--project NAME` it reaches that project alone, else every one.

    \b
    read    status, lists, logs, screens
    run     run commands of runbooks, which the caller brings along: it is as
            good as a shell on the daemon's machine, whatever the project
    send    type messages into agents' sessions
    answer  answer decisions
    manage  cancel, suspend, resume, kill, drop and prune
    attach  enter agents' terminals
    daemon  stop the daemon, make and revoke tokens
    """
    reply = ctx.action(
        "TokenCreate",
        verbs=_verbs(verbs),
        expires_ms=int(parse_duration(expires) * 1000),
        project=ctx.project_filter or "",
        name=name,
    )
    if ctx.json:
        output.reply(reply)
        return
    where = f"in project {reply['project']}" if reply["project"] else "in every project"
    diagnostics.say(
        f"Token {short_id(reply['id'])} may {', '.join(reply['verbs'])} {where}"
        f" until {moment(reply['expires_at_ms'])}. It is shown only now; use it as OJ_AUTH_TOKEN."
    )
    output.line(reply["token"])


def _verbs(text: str) -> list[str]:
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in tuple(Verb)]
    if unknown or not words:
        what = ", ".join(map(repr, unknown)) or "nothing"
        raise OjError(
            f"cannot make a token for {what}: the verbs are {', '.join(Verb)}",
            code="invalid",
            hint=f"oj token create --verbs {VERBS}",
        )
    return words


@token.command("list")
@pass_ctx
def list_(ctx: Ctx) -> None:
    """List tokens, newest first; those that ended stay for 30 days."""
    tokens = ctx.query("TokenList", project=ctx.project_filter)["tokens"]
    if ctx.json:
        output.json(tokens)
        return
    if not tokens:
        output.line("No tokens")
        return
    now = now_ms()
    output.table(
        ["ID", "NAME", "PROJECT", "MAY", "AGE", "STATUS", "EXPIRES"],
        [
            [
                output.literal(short_id(entry["id"])),
                entry["name"] or "-",
                entry["project"] or "(every)",
                ",".join(entry["verbs"]),
                since(entry["created_at_ms"], now),
                _status(entry),
                moment(entry["expires_at_ms"]),
            ]
            for entry in tokens
        ],
    )


def _status(entry: dict[str, Any]) -> output.Text:
    word: str = entry["status"]
    style = output.GREEN if word == "active" else output.MUTED
    return output.Span(word, style)


@token.command()
@click.argument("id", shell_complete=complete_token)
@pass_ctx
def revoke(ctx: Ctx, id: str) -> None:  # noqa: A002 - click passes by name
    """Let a token open nothing any more, at once."""
    reply = ctx.action("TokenRevoke", id=id)
    if ctx.json:
        output.reply(reply)
    else:
        output.line(f"Revoked token {short_id(reply['id'])}")
