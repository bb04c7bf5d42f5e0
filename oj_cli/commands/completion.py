"""`oj completion`: the script that lets a shell complete `oj`, and what ids and names it offers.

Rule: a shell waits for the answer while someone types, so whatever goes wrong here is silence, and a daemon is asked only
if it runs.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from oj_cli import output
from oj_cli.context import Ctx, pass_ctx
from oj_cli.lazy import Options
from oj_daemon.errors import OjError
from oj_daemon.wire.names import ENDED_AGENTS, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIVE = ("pending", "running", "waiting", "ending")
BY_VERB = {
    "cancel": LIVE,
    "suspend": LIVE,
    "resume": ("failed", "suspended", *LIVE),
}
"""Statuses of the jobs that a verb is for; every other verb is for all."""
PATIENCE_MS = 500
"""How long the daemon may take; a shell that hangs on Tab is worse than one without ids."""
MOST = 50


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_ctx
def completion(_ctx: Ctx, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  oj completion bash > ~/.local/share/bash-completion/completions/oj
    zsh:   oj completion zsh > ~/.zfunc/_oj        (with `fpath+=~/.zfunc` before compinit in ~/.zshrc)
    fish:  oj completion fish > ~/.config/fish/completions/oj.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choices are those that click has
    output.block(kind(click.Command("oj"), {}, "oj", "_OJ_COMPLETE").source())


def job_ids(
    context: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of jobs that the verb is for, newest first; full ones once `job-` is typed."""
    try:
        jobs = _jobs(_ctx_of(context))
    except (OjError, OSError):
        return []
    wanted = BY_VERB.get(context.info_name or "")
    items = []
    for job in jobs:
        shown = job["id"] if incomplete.startswith("job-") else short_id(job["id"])
        if shown.startswith(incomplete) and (wanted is None or job["status"] in wanted):
            items.append(CompletionItem(shown, help=f"{job['name']} ({job['status']})"))
    return items


def agent_ids(
    context: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of agents that the verb is for, newest first; full ones once `agt-` is typed."""
    try:
        agents = _ask(_ctx_of(context), "AgentList", limit=MOST)["agents"]
    except (OjError, OSError):
        return []
    is_for_live = context.info_name in ("send", "kill", "suspend", "resume", "wait", "attach")
    return [
        CompletionItem(shown, help=f"{each['name']} of {each['job_name']} ({each['status']})")
        for each in agents
        if (shown := each["id"] if incomplete.startswith("agt-") else short_id(each["id"]))
        and shown.startswith(incomplete)
        and not (is_for_live and each["status"] in ENDED_AGENTS)
    ]


def decision_ids(
    context: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of decisions: open ones, for `reopen` those that were dismissed."""
    wanted = {"reopen": ("dismissed",), "show": ()}.get(context.info_name or "", ("open",))
    try:
        every = _ask(_ctx_of(context), "DecisionList", all=wanted != ("open",))["decisions"]
    except (OjError, OSError):
        return []
    return [
        CompletionItem(shown, help=f"{each['source']}: {each['owner_name']}")
        for each in every[:MOST]
        if (shown := each["id"] if incomplete.startswith("dec-") else short_id(each["id"]))
        and shown.startswith(incomplete)
        and (not wanted or each["status"] in wanted)
    ]


def token_ids(
    context: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of tokens that can be revoked, newest first; full ones once `tok-` is typed."""
    try:
        every = _ask(_ctx_of(context), "TokenList")["tokens"]
    except (OjError, OSError):
        return []
    return [
        CompletionItem(shown, help=f"{each['name'] or 'no name'}: {', '.join(each['verbs'])}")
        for each in every[:MOST]
        if (shown := each["id"] if incomplete.startswith("tok-") else short_id(each["id"]))
        and shown.startswith(incomplete)
        and each["status"] == "active"
    ]


def command_names(
    context: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """What `oj run` can run here."""
    from oj_cli.runnable import listing  # noqa: PLC0415 - loads the runbook reader

    try:
        found = listing(_ctx_of(context))
    except (OjError, OSError):
        return []
    return [
        CompletionItem(entry.name, help=entry.description)
        for entry in found.commands
        if entry.name.startswith(incomplete)
    ]


def _ctx_of(context: click.Context) -> Ctx:
    options = context.find_root().obj
    return Ctx(options if isinstance(options, Options) else Options())


def _jobs(ctx: Ctx) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = _ask(ctx, "JobList", limit=MOST)["jobs"]
    return jobs


def _ask(ctx: Ctx, type: str, **fields: Any) -> dict[str, Any]:  # noqa: A002, ANN401 - the wire's word and values
    from oj_daemon.wire.client import Client  # noqa: PLC0415 - only when completing

    # To reach another machine takes its time as well.
    with Client(ctx.settings._replace(timeout_ipc_ms=PATIENCE_MS)) as client:
        return client.call(type, timeout_ms=PATIENCE_MS, **fields)
