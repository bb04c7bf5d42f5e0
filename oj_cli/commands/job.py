"""`oj job`: list, show, wait, logs, cancel, suspend, resume, prune.

Rule: arguments become one request, the reply becomes text or JSON; what a job may do is decided by the daemon.
"""

from __future__ import annotations

import click

from oj_cli import diagnostics, interrupt, output
from oj_cli.context import Ctx, complete_job, pass_ctx, row_limit
from oj_cli.diagnostics import ExitCode
from oj_cli.logs import log_options, print_log
from oj_daemon.errors import OjError
from oj_daemon.wire.format import now_ms, parse_duration, since
from oj_daemon.wire.names import JobStatus, short_id
from oj_daemon.wire.text import cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMIT = 20
"""Rows of a list, unless asked for more."""


@click.group()
def job() -> None:
    """Jobs: what runs, what ran, and what to do about it."""


@job.command("list")
@click.argument("name", required=False)
@click.option(
    "--status", "status", metavar="STATUS", help="Only jobs in this status or at this step."
)
@click.option(
    "-n", "limit", type=click.IntRange(1), help=f"Show at most this many (default {LIMIT})."
)
@click.option("--no-limit", is_flag=True, help="Show all.")
@click.option(
    "--all-kinds", is_flag=True, help="Also stand-alone agents, which `oj agent list` shows."
)
@pass_ctx
def list_(  # noqa: PLR0917 - one parameter per option
    ctx: Ctx,
    name: str | None,
    status: str | None,
    limit: int | None,
    no_limit: bool,
    all_kinds: bool,
) -> None:
    """List jobs, newest change first; NAME is a part of the name or kind."""
    rows = row_limit(limit, LIMIT, no_limit=no_limit)
    more = {"all_kinds": True} if all_kinds else {}
    reply = ctx.query(
        "JobList", project=ctx.project_filter, name=name, status=status, limit=rows, **more
    )
    jobs = reply["jobs"]
    if ctx.json:
        output.json(jobs)
        return
    if not jobs:
        output.line("No jobs")
        _explain_no_jobs(ctx, name, status)
        return
    now = now_ms()
    has_retries = any(entry["retries"] for entry in jobs)
    headers = [
        "ID",
        "PROJECT",
        "NAME",
        "KIND",
        "STEP",
        "UPDATED",
        *(["RETRIES"] if has_retries else []),
        "STATUS",
    ]
    output.table(
        headers,
        [
            [
                output.literal(short_id(entry["id"])),
                entry["project"],
                "-" if entry["name"] == entry["id"] else entry["name"],
                entry["kind"],
                entry["step"],
                since(entry["updated_at_ms"], now),
                *([str(entry["retries"])] if has_retries else []),
                output.status(entry["status"]),
            ]
            for entry in jobs
        ],
    )
    output.hidden(reply["total"] - len(jobs))


def _explain_no_jobs(ctx: Ctx, name: str | None, status: str | None) -> None:
    if status is not None and status.lower() not in tuple(JobStatus):
        diagnostics.hint(
            f"'{status}' is no status; if it is no step either, choose from: {', '.join(JobStatus)}"
        )
    elif name is not None or status is not None or ctx.project_filter is not None:
        diagnostics.hint("nothing matches; 'oj job list' shows all jobs")
    else:
        diagnostics.hint("'oj run' lists what can be run here")


@job.command()
@click.argument("id", shell_complete=complete_job)
@click.option("-v", "--verbose", is_flag=True, help="Show values and details in full.")
@click.option("--story", is_flag=True, help="Show every fact that the log has about the job.")
@pass_ctx
def show(ctx: Ctx, id: str, verbose: bool, story: bool) -> None:  # noqa: A002 - click passes by name
    """Show one job: where it is, why, its steps and its variables."""
    if story:
        _print_story(ctx, id, verbose=verbose)
        return
    print_job(ctx, ctx.query("JobShow", id=id), verbose=verbose)


def print_job(ctx: Ctx, detail: dict[str, Any], *, verbose: bool) -> None:
    """Print a JobDetail."""
    if ctx.json:
        output.reply(detail)
        return
    from oj_cli import job_view  # noqa: PLC0415 - only for text

    is_far = ctx.settings.daemon_url is not None
    output.lines(job_view.lines(detail, now_ms(), verbose=verbose, is_far=is_far))


def _print_story(ctx: Ctx, job_id: str, *, verbose: bool) -> None:
    reply = ctx.query("JobStory", id=job_id)
    if ctx.json:
        output.reply(reply)
        return
    from json import dumps  # noqa: PLC0415 - only for this option

    from oj_daemon.wire.format import moment  # noqa: PLC0415 - the same

    if not reply["complete"]:
        diagnostics.say("The beginning of this story is no longer in the log.")
    rows: list[list[output.Text]] = []
    for entry in reply["lines"]:
        data = dumps(entry["data"], ensure_ascii=False)
        rows.append(
            [
                str(entry["seq"]),
                moment(entry["at_ms"]),
                output.header(entry["fact"]),
                output.context(entry["cause"]),
                data if verbose else cut(data, 100),
            ]
        )
    output.table(["SEQ", "AT", "FACT", "CAUSE", "DATA"], rows, right=[0])


@job.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_job)
@click.option(
    "--all", "all_of_them", is_flag=True, help="Wait for all of the jobs, not for the first to end."
)
@click.option(
    "--timeout", metavar="DURATION", help="Give up after this long (30s, 5m, 1h30m): exit code 2."
)
@click.option(
    "--until-blocked",
    is_flag=True,
    help="A job that waits for a decision ends the wait too: exit code 6.",
)
@pass_ctx
def wait(
    ctx: Ctx, ids: tuple[str, ...], all_of_them: bool, timeout: str | None, until_blocked: bool
) -> int:
    """Wait until a job ends, telling what its steps do.

    Exit code: 0 completed, 1 failed, 2 timeout, 3 not found, 4 cancelled, 5 suspended, 6 blocked, 130 interrupted.
    """
    with interrupt.exits(ExitCode.INTERRUPTED):
        from oj_cli.waiting import Wait  # noqa: PLC0415 - only for this verb

        seconds = None if timeout is None else parse_duration(timeout)
        return Wait(ctx, all_of_them=all_of_them, until_blocked=until_blocked).run(ids, seconds)


@job.command()
@click.argument("id", shell_complete=complete_job)
@log_options("the job ends or Ctrl-C", "Only lines of this step.")
@pass_ctx
def logs(ctx: Ctx, id: str, follow: bool, limit: int, step: str | None) -> None:  # noqa: A002
    """Show the log of a job."""
    print_log(ctx, "job", id, follow=follow, limit=limit, step=step)


@job.command()
@click.argument("id", shell_complete=complete_job)
@pass_ctx
def attach(ctx: Ctx, id: str) -> int:  # noqa: A002
    """Enter an agent's terminal; Ctrl-] leaves it, the agent goes on."""
    from oj_cli.commands.attach import enter  # noqa: PLC0415 - only for this verb

    return enter(ctx, id)[1]


@job.command()
@click.argument("id", shell_complete=complete_job)
@pass_ctx
def peek(ctx: Ctx, id: str) -> None:  # noqa: A002
    """Show an agent's screen: as it is now, or as it was last."""
    from oj_cli.commands.peek import print_screen  # noqa: PLC0415 - only for this verb

    print_screen(ctx, ctx.query("AgentPeek", id=id))


@job.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_job)
@pass_ctx
def cancel(ctx: Ctx, ids: tuple[str, ...]) -> int:
    """Cancel jobs: their steps are ended, then their clean-up runs."""
    return end_jobs(ctx, "cancel", ids)


@job.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_job)
@pass_ctx
def suspend(ctx: Ctx, ids: tuple[str, ...]) -> int:
    """Stop jobs so that they can be resumed; their workspaces are kept."""
    return end_jobs(ctx, "suspend", ids)


def end_jobs(ctx: Ctx, verb: str, ids: tuple[str, ...]) -> int:
    """Cancel or suspend jobs; fails if any of them could not be found."""
    request, done, word = {
        "cancel": ("JobCancel", "cancelled", "Cancelled"),
        "suspend": ("JobSuspend", "suspended", "Suspended"),
    }[verb]
    reply = ctx.action(request, ids=list(dict.fromkeys(ids)))
    is_complete = not reply["not_found"] and not reply["ambiguous"]
    if ctx.json:
        output.reply(reply)
    else:
        output.lines(
            [
                *(f"{word} job {job_id}" for job_id in reply[done]),
                *(f"Job {job_id} was already terminal" for job_id in reply["already_terminal"]),
            ]
        )
    for job_id in reply["not_found"]:
        diagnostics.say(f"Job not found: {job_id}")
    for entry in reply["ambiguous"]:
        diagnostics.say(f"Job {entry['id']} is ambiguous: {', '.join(entry['candidates'])}")
    if not is_complete:
        diagnostics.hint("'oj job list --no-limit' shows all ids")
    return ExitCode.OK if is_complete else ExitCode.FAILED


@job.command()
@click.argument("id", required=False, shell_complete=complete_job)
@click.option("-m", "--message", help="Text for the agent that goes on.")
@click.option(
    "--var", "pairs", metavar="KEY=VALUE", multiple=True, help="Change a variable; may be repeated."
)
@click.option("--step", help="Go on at this step.")
@click.option("--all", "all_of_them", is_flag=True, help="Every job that can be resumed.")
@click.option("--kill", is_flag=True, help="Restart what still runs.")
@pass_ctx
def resume(ctx: Ctx, /, **options: Any) -> None:  # noqa: ANN401 - passed on by name
    """Carry on with a suspended or failed job."""
    resume_jobs(ctx, **options)


def resume_jobs(
    ctx: Ctx,
    *,
    id: str | None,  # noqa: A002 - the argument's name
    message: str | None,
    pairs: tuple[str, ...],
    step: str | None,
    all_of_them: bool,
    kill: bool,
) -> None:
    """Resume one job, or all of them."""
    if all_of_them:
        if id is not None or message is not None or pairs or step is not None:
            text = "--all cannot be combined with an id, --message, --var or --step"
            raise OjError(text, code="invalid", hint="oj job resume --all [--kill]")
        _resume_all(ctx, kill=kill)
        return
    if id is None:
        text = "which job? Name one by its id, or say --all"
        raise OjError(text, code="invalid", hint="oj job list --status failed")
    values = dict(map(_pair, pairs))
    reply = ctx.action("JobResume", id=id, message=message, vars=values, step=step, kill=kill)
    for text in reply["warnings"]:
        diagnostics.warn(text)
    if ctx.json:
        output.reply(reply)
        return
    verb = "Updated vars and resumed" if values else "Resumed"
    at = f" at {', '.join(reply['steps'])}" if reply["steps"] else ""
    output.line(f"{verb} job {reply['id']}{at}")


def _resume_all(ctx: Ctx, *, kill: bool) -> None:
    reply = ctx.action("JobResumeAll", kill=kill, project=ctx.project_filter)
    if ctx.json:
        output.reply(reply)
    elif not reply["resumed"] and not reply["skipped"]:
        output.line("No resumable jobs found")
    else:
        output.lines(
            [
                *(f"Resumed job {job_id}" for job_id in reply["resumed"]),
                *(f"Skipped job {job_id}: {reason}" for job_id, reason in reply["skipped"]),
            ]
        )


def _pair(text: str) -> tuple[str, str]:
    key, mark, value = text.partition("=")
    if not mark or not key:
        message = f"--var {text}: expected KEY=VALUE"
        raise OjError(message, code="invalid", hint="oj job resume ID --var branch=main")
    return key, value


@job.command()
@click.option(
    "--all", "any_age", is_flag=True, help="Of any age, not only those that ended 12 hours ago."
)
@click.option("--failed", is_flag=True, help="Only failed jobs, of any age.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@pass_ctx
def prune(ctx: Ctx, any_age: bool, failed: bool, dry_run: bool) -> None:
    """Forget finished jobs and delete their logs; suspended ones are always kept."""
    request = {"all": any_age, "failed": failed, "dry_run": dry_run, "project": ctx.project_filter}
    output.pruned("job", ctx.action("JobPrune", **request), json_wanted=ctx.json)
