"""`oj run`: start a command of the project's runbooks.

Rule: everything that can be judged here is judged before a daemon is started for it, and whatever is wrong is said in
the words of this side (a daemon that is at work already may judge first, see oj_cli/warm.py). Shell text runs in this
terminal and needs no daemon; a job is handed over with the texts that define it and what only this machine knows
(system.md D1, D2), under a random key, so asking again after a lost reply starts nothing twice.
"""

from __future__ import annotations

import os

import click

from oj_cli import diagnostics, output, warm
from oj_cli.context import Ctx, pass_ctx
from oj_cli.diagnostics import ExitCode
from oj_cli.runnable import catalog_of, help_rows, list_rows, listing, read_texts
from oj_daemon.errors import OjError, Rejected, WireError
from oj_daemon.wire.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from oj_cli.output import Text
    from oj_daemon.runbook.load import Catalog, Found
    from oj_daemon.runbook.model import ArgSpec, CommandDef, Runbook
    from oj_daemon.runbook.sources import Sources

ENDS = {
    "completed": ExitCode.OK,
    "failed": ExitCode.FAILED,
    "cancelled": ExitCode.CANCELLED,
    "suspended": ExitCode.SUSPENDED,
}
"""Exit code by how the job ended."""
FLAGS = {
    "-d": "detach",
    "--detach": "detach",
    "--wait": "wait",
    "--attach": "attach",
    "--no-attach": "no_attach",
    "-h": "help",
    "--help": "help",
}
"""Options of `oj run` that are understood behind CMD as well, where CMD does not declare the word itself."""


class Wanted:
    """How the job is to be waited for."""

    def __init__(self, *, detach: bool, wait: bool, attach: bool | None) -> None:
        self.detach = detach
        self.wait = wait
        self.attach = attach
        self.help = False


class RunCommand(click.Command):
    """`oj run`, whose help ends in what can be run here."""

    def get_help(self, ctx: click.Context) -> str:
        """Click's help, then the list of commands."""
        text = super().get_help(ctx)
        try:
            rows = list_rows(listing(Ctx(ctx.ensure_object(_options()))))
        except OjError:
            return text
        return "\n".join([text, "", *(output.render(*row) for row in rows)])


def _options() -> type[Any]:
    from oj_cli.lazy import Options  # noqa: PLC0415 - loaded already

    return Options


def _complete(context: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    from oj_cli.commands.completion import command_names  # noqa: PLC0415 - only when completing

    return command_names(context, param, incomplete)


@click.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})
@click.option("--runbook", metavar="FILE", help="Take the command from this file.")
@click.option("-d", "--detach", is_flag=True, help="Return as soon as the job is on record.")
@click.option(
    "--wait", is_flag=True, help="Wait for the end of the job, telling only of its steps."
)
@click.option("--attach/--no-attach", default=None, help="Whether to enter an agent's terminal.")
@click.argument("cmd", required=False, shell_complete=_complete)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@pass_ctx
def run(  # noqa: PLR0917 - one parameter per option
    ctx: Ctx,
    runbook: str | None,
    detach: bool,
    wait: bool,
    attach: bool | None,
    cmd: str | None,
    args: tuple[str, ...],
) -> int:
    """Run a command of the project's runbooks; without CMD, list them.

    Shell text runs right here and its exit code is ours. A job or an agent is run by the daemon and followed: live on a
    terminal, where its questions can be answered on the spot, as plain lines in a pipe. Ctrl-C detaches (exit 0), the job
    goes on. The exit code is the job's: 0 done, 1 failed, 4 cancelled, 5 suspended. `oj run CMD --help` explains one
    command; what follows `--` is left to CMD.
    """
    if cmd is None:
        return _print_list(ctx)
    wanted = Wanted(detach=detach, wait=wait, attach=attach)
    texts, file = read_texts(ctx, runbook)
    if file is None and attach is None and warm.may_ask(ctx, texts, cmd, args):
        started = _start_warm(ctx, cmd, args, texts)
        if started is not None:
            return report_started(ctx, cmd, started, wanted)
    catalog = catalog_of(texts)
    found = catalog.find_command(cmd, file, full=False)
    words = take_own_words(found.definition.args, args, wanted, ctx)
    if wanted.help:
        output.lines(help_rows(found.definition))
        return ExitCode.OK
    return _run(ctx, catalog, found, words, wanted, texts, file)


def _run(  # noqa: PLR0917 - what the steps before found out
    ctx: Ctx,
    catalog: Catalog,
    found: Found[CommandDef],
    words: Sequence[str],
    wanted: Wanted,
    texts: Sources,
    file: str | None,
) -> int:
    from oj_daemon.runbook import argspec, model  # noqa: PLC0415 - loaded already; not for the help

    command = found.definition
    values = argspec.bind(command.args, command.defaults, words, command.name)
    if wanted.attach:
        _check_attach(ctx, found, wanted)
    elif wanted.attach is None and isinstance(command.run, model.RunAgent) and command.run.attach:
        wanted.attach = output.is_tty() and not (wanted.detach or wanted.wait or ctx.json)
    if isinstance(command.run, model.RunShell):
        if wanted.detach or wanted.wait or ctx.json:
            option = "--detach" if wanted.detach else "--wait" if wanted.wait else "-o json"
            raise OjError(
                f"`{command.name}` is shell text, which runs right here: {option} is for jobs",
                code="invalid",
                hint=f"oj run {command.name}",
            )
        # Only now is shell text compiled: a job's is the daemon's to judge, and that costs more than all the rest.
        whole = catalog.find_command(command.name, file)
        return run_shell(ctx, whole.definition, values)
    git = isinstance(command.run, model.RunJob) and is_git_job(found.runbook, command.run.job)
    if not git and ctx.is_cloned:
        from oj_cli import project  # noqa: PLC0415 - loaded already

        # Nothing else of this folder is known over there; without a repository, git is not needed here.
        git = project.is_in_checkout(ctx.invoke_dir)
    fields = request_fields(ctx, command.name, words, texts, file, with_repo=git)
    return report_started(ctx, command.name, start(ctx, fields), wanted)


def _check_attach(ctx: Ctx, found: Found[CommandDef], wanted: Wanted) -> None:
    """Raise where there will be no terminal to enter, or none to enter it from; nothing has been started yet."""
    from oj_cli import terminal  # noqa: PLC0415 - imports termios; only for --attach
    from oj_daemon.runbook import model  # noqa: PLC0415 - loaded already

    command = found.definition
    job = found.runbook.jobs.get(command.run.job) if isinstance(command.run, model.RunJob) else None
    steps = job.steps if job is not None else ()
    if not isinstance(command.run, model.RunAgent) and not any(
        isinstance(step.run, model.RunAgent) for step in steps
    ):
        raise OjError(
            f"cannot attach to `{command.name}`: only an agent has a terminal to enter",
            code="invalid",
            hint=f"oj run {command.name}",
        )
    if wanted.detach or wanted.wait or ctx.json:
        option = "--detach" if wanted.detach else "--wait" if wanted.wait else "-o json"
        text = f"--attach cannot be combined with {option}"
        raise OjError(text, code="invalid", hint=f"oj run --attach {command.name}")
    terminal.check()


def _print_list(ctx: Ctx) -> int:
    found = listing(ctx)
    if ctx.json:
        output.json(
            {
                "commands": [entry._asdict() for entry in found.commands],
                "warnings": [{"path": path, "reason": reason} for path, reason in found.skipped],
            }
        )
        return ExitCode.OK
    output.lines([["Usage: oj run COMMAND [ARGS...]"], [""], *list_rows(found)])
    return ExitCode.OK


def _start_warm(
    ctx: Ctx, command: str, args: Sequence[str], texts: Sources
) -> dict[str, Any] | None:
    """What the daemon says to a request that it alone has judged; None when it refused, for the long way to say why."""
    from oj_daemon.wire.client import RemoteError  # noqa: PLC0415 - loaded already

    try:
        return start(ctx, request_fields(ctx, command, args, texts, None, with_repo=False))
    except RemoteError:
        return None


# The words behind CMD


def take_own_words(spec: ArgSpec, args: Sequence[str], wanted: Wanted, ctx: Ctx) -> list[str]:
    """What is left for the command once options of `oj run` itself are taken out of the words behind CMD."""
    takes_value = {f"--{each.name}" for each in spec.options} | {
        f"-{each.short}" for each in spec.options
    }
    theirs = (
        takes_value
        | {f"--{each.name}" for each in spec.flags}
        | {f"-{each.short}" for each in spec.flags}
    )
    left: list[str] = []
    words = list(args)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*left, word, *words]
        name, _, value = word.partition("=")
        if word in theirs:
            left.append(word)
            if word in takes_value and words:
                left.append(words.pop(0))
        elif word in FLAGS:
            _set(wanted, FLAGS[word])
        elif name in ("-o", "--output") and name not in theirs and (value or words):
            value = value or words.pop(0)
            if value not in ("text", "json"):
                raise click.BadParameter(
                    f"{value!r} is not one of 'text', 'json'.", param_hint="'-o'"
                )
            ctx.options.output = value
        else:
            left.append(word)
    return left


def _set(wanted: Wanted, name: str) -> None:
    if name == "no_attach":
        wanted.attach = False
    else:
        setattr(wanted, name, True)


# Shell text, right here


def run_shell(ctx: Ctx, command: CommandDef, arguments: dict[str, str]) -> int:
    """Run a command's shell text in this terminal and return its exit code."""
    from oj_cli.foreground import run_bash  # noqa: PLC0415 - imports subprocess; shell commands only
    from oj_daemon.runbook import argspec, model, template  # noqa: PLC0415 - loaded already

    assert isinstance(command.run, model.RunShell)  # noqa: S101 - the caller looked
    shell = command.run.shell
    # Declared but not given is empty, here as in a job.
    values = {f"args.{name}": "" for name in argspec.names(command.args)}
    values |= {f"args.{name}": value for name, value in arguments.items()}
    values["invoke.dir"] = str(ctx.invoke_dir)
    values["workspace"] = str(ctx.root)
    try:
        environ = template.resolve(shell.bindings, values)
    except Rejected as failure:
        raise OjError(
            f"cannot run `{command.name}`: {failure.message}", code=failure.code, hint=failure.hint
        ) from failure
    inherited = ctx.settings.inherited.reveal()
    return run_bash(shell.script, ctx.root, {**inherited, "OJ_PROJECT": ctx.project, **environ})


# A job, by the daemon


def is_git_job(runbook: Runbook, name: str) -> bool:
    """Whether a job works in a git worktree; only then is git asked about this folder, which takes a while."""
    job = runbook.jobs.get(name)
    return job is not None and job.source is not None and job.source.kind == "git"


def request_fields(
    ctx: Ctx,
    command: str,
    words: Sequence[str],
    texts: Sources,
    file: str | None,
    *,
    with_repo: bool,
) -> dict[str, Any]:
    """RunCommand, with all that only this machine knows."""
    from oj_cli import project  # noqa: PLC0415 - loaded already
    from oj_daemon.runbook import sources  # noqa: PLC0415 - loaded already

    repo = None
    if with_repo:
        repo = project.repository(ctx.invoke_dir)
    return {
        "project": ctx.project,
        "project_root": str(ctx.root),
        "invoke_dir": str(ctx.invoke_dir),
        "command": command,
        "args": list(words),
        "runbook": file,
        "sources": {
            "files": [{"path": path, "text": text} for path, text in texts.files.items()],
            "problems": [[each.path, each.reason] for each in texts.unreadable],
        },
        "env": sources.env_values(texts.files.values(), ctx.settings.inherited.reveal()),
        "repo": repo,
        **({"container": container} if (container := project.container(ctx.root)) else {}),
        **({} if ctx.settings.daemon_url is None else {"is_remote": True}),
        "key": os.urandom(16).hex(),
    }


def report_started(ctx: Ctx, command: str, started: dict[str, Any], wanted: Wanted) -> int:
    """Tell that a job is on record, and follow it as far as wanted."""
    from oj_daemon.wire.names import short_id  # noqa: PLC0415 - loaded by the client

    if not ctx.json:
        output.line(output.header("Project: "), ctx.project)
        output.line(output.header("Command: "), command)
    for warning in started["warnings"]:
        diagnostics.warn(warning)
    job_id = started["job_id"]
    if ctx.json:
        return _json(ctx, started, wanted)
    short = short_id(job_id)
    # A job without a title is called by its id, which is said already.
    title = started["kind"] if started["name"] == job_id else started["name"]
    is_crew = job_id.startswith("crw-")
    if is_crew:
        output.line(output.header("Agent: "), title, " (", output.literal(short), ")")
    else:
        output.line("Started ", title, " (job: ", output.literal(short), ")")
    if wanted.wait and not wanted.detach:
        from oj_cli.waiting import Wait  # noqa: PLC0415 - only for --wait

        wait = Wait(ctx, all_of_them=True, until_blocked=False)
        code = wait.run([job_id], None, was_there=True)
        _tell_kept(ctx, job_id)
        return code
    if wanted.detach or not output.is_tty():
        output.lines(hints(short, AGENT_WAYS if is_crew else WAYS))
    if wanted.detach:
        return ExitCode.OK
    from oj_cli.follow import follow  # noqa: PLC0415 - not for --detach

    if wanted.attach:
        try:
            is_left = _enter(ctx, job_id)
        except KeyboardInterrupt:
            is_left = True
        if is_left:
            output.lines(ways_back(short))
            return ExitCode.OK
    ended = follow(ctx, job_id, wants_view=output.is_tty())
    if ended is None:
        diagnostics.say("Detached; the job goes on.")
        output.lines(ways_back(short))
        return ExitCode.OK
    _tell_kept(ctx, job_id)
    return ENDS[ended["status"]]


def _tell_kept(ctx: Ctx, job_id: str) -> None:
    """Say so when a daemon on another machine keeps the job's clone, because nobody will stumble over it there."""
    if ctx.settings.daemon_url is None:
        return
    import time  # noqa: PLC0415 - only for a daemon on another machine

    from oj_cli.watch import pause  # noqa: PLC0415 - loaded already

    deadline = time.monotonic() + KEPT_SECONDS
    try:
        with ctx.client() as client:
            while time.monotonic() < deadline:
                workspace = client.call("JobShow", id=job_id)["workspace"]
                if workspace is None or workspace["status"] not in ("deleting", "kept"):
                    return
                if workspace.get("place"):
                    return  # what a pod has that was not pushed is saved, and the job's log says so
                if workspace["status"] == "kept":
                    diagnostics.warn(f"the clone is kept: {one_line(workspace['reason'])}")
                    output.lines(hints(workspace["id"][4:12], KEPT_WAYS))
                    return
                pause(KEPT_POLL)
    except (OjError, KeyboardInterrupt):
        return  # the job has ended, and that is told


def _enter(ctx: Ctx, job_id: str) -> bool:
    """Enter the terminal of the job's first agent; True when the person left it, and with it the job."""
    from oj_cli.commands.attach import await_agent, enter  # noqa: PLC0415 - only for --attach

    agent_id = await_agent(ctx, job_id)
    if agent_id is None:
        diagnostics.say("The job has ended before there was an agent to enter.")
        return False
    ending, _ = enter(ctx, agent_id)
    return ending.kind not in ("ended", "closed")


def start(ctx: Ctx, fields: dict[str, Any]) -> dict[str, Any]:
    """The daemon's word that the job is on record; asked for again, under the same key, where the reply was lost."""
    try:
        return ctx.action("RunCommand", **fields)
    except WireError as failure:
        if failure.code not in ("closed", "timeout"):
            raise
        diagnostics.warn(f"{failure.message}; asking again")
        return ctx.action("RunCommand", **fields)


def _json(ctx: Ctx, started: dict[str, Any], wanted: Wanted) -> int:
    if not wanted.wait or wanted.detach:
        output.json(started)
        return ExitCode.OK
    from oj_cli.follow import await_end  # noqa: PLC0415 - only for --wait

    ended = await_end(ctx, started["job_id"])
    output.json(ended)
    return ENDS[ended["status"]]


WAYS = (
    ("details:", "job show"),
    ("wait:", "job wait"),
    ("output:", "logs -f"),
    ("pause:", "suspend"),
    ("end:", "cancel"),
)
KEPT_WAYS = (("details:", "workspace show"), ("remove:", "workspace drop"))
KEPT_SECONDS = 5.0
"""How long `oj run` waits for what becomes of a clone; the daemon may have to ask the remote what was pushed."""
KEPT_POLL = 0.1
AGENT_WAYS = (
    ("details:", "agent show"),
    ("wait:", "agent wait"),
    ("output:", "logs -f"),
    ("screen:", "peek"),
    ("enter:", "attach"),
    ("end:", "cancel"),
)


def hints(short: str, ways: Sequence[tuple[str, str]] = WAYS) -> list[Sequence[Text]]:
    """What to type next about what was started."""
    return [
        [output.context(f"  {label:9}"), output.literal(f"oj {words} {short}")]
        for label, words in ways
    ]


def ways_back(short: str) -> list[Sequence[Text]]:
    """What to type next about a job that was left."""
    return [
        [output.context(f"  {label:13}"), output.literal(f"oj {words} {short}")]
        for label, words in (
            ("follow it:", "logs -f"),
            ("wait for it:", "job wait"),
            ("end it:", "cancel"),
        )
    ]
