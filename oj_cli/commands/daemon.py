"""`oj daemon`: run, start, stop and question the daemon of this machine.

Rule: without a verb the daemon runs in the foreground, as the very process that `oj` was. How the daemon is, is a question that
has an answer also when none runs; its log is read from the file for the same reason.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from oj_cli import autostart, diagnostics, interrupt, output
from oj_cli.context import Ctx, pass_ctx
from oj_cli.daemon_pod import connect, manifest
from oj_cli.logs import lines_of
from oj_daemon import settings
from oj_daemon.errors import OjError, WireError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from oj_cli.lazy import Options

NOT_RUNNING = "Daemon not running"
BLOCK = 64 << 10


@click.group(invoke_without_command=True)
@click.option(
    "-v",
    "-V",
    "--version",
    "wants_version",
    is_flag=True,
    help="Show the version of the running daemon and exit.",
)
@click.pass_context
def daemon(context: click.Context, *, wants_version: bool) -> None:
    """The daemon that runs jobs; without a verb, run it here in the foreground."""
    if wants_version:
        context.invoke(_version)
        context.exit()
    if context.invoked_subcommand is None:
        context.invoke(_foreground)


@click.pass_obj
def _foreground(options: Options) -> NoReturn:
    try:
        ctx = Ctx(options, warn=False)
    except OjError:
        is_folder_there = options.directory is None
        if (
            is_folder_there and settings.log_alone().speaks_json
        ):  # the daemon finds the same, and says it in its log
            _become(autostart.program(settings.inherited().reveal()))
        raise
    if (
        not ctx.settings.log_stdout
    ):  # there the daemon says the same: one object a line in a cluster, and nothing else
        for text in ctx.settings.warnings:
            diagnostics.warn(text)
    interrupt.loaded()
    autostart.must_be_ours(ctx.settings, "start")
    _become_daemon(ctx)


@pass_ctx
def _version(ctx: Ctx) -> None:
    info = _info(ctx)
    if info is None:
        _say_not_running(ctx)
    elif ctx.json:
        output.json({"status": info["status"], "version": info["version"]})
    else:
        output.line(f"oj daemon {info['version']}")


@daemon.command()
@click.option("--foreground", is_flag=True, help="Run it here instead, as `oj daemon` does.")
@click.option(
    "--recover",
    is_flag=True,
    help="Start on a damaged log with what of it is sound; keeps copies of the damaged files.",
)
@pass_ctx
def start(ctx: Ctx, *, foreground: bool, recover: bool) -> None:
    """Start the daemon in the background."""
    autostart.must_be_ours(ctx.settings, "start")
    arguments = ["--recover"] * recover
    if foreground:
        _become_daemon(ctx, *arguments)
    info = _info(ctx)
    if info is not None:
        _result(ctx, "already_running", f"Daemon already running (uptime: {info['uptime']})", info)
        return
    with autostart.start(ctx.settings, *arguments) as client:
        _result(ctx, "started", "Daemon started", client.call("DaemonStatus"))


@daemon.command()
@click.option(
    "--kill",
    is_flag=True,
    help="End everything that runs as well; else it goes on and the next daemon picks it up.",
)
@pass_ctx
def stop(ctx: Ctx, *, kill: bool) -> None:
    """Let the daemon finish what is in flight, and end it."""
    stopped = autostart.stop(ctx.settings, kill=kill)
    autostart.report_forced(stopped)
    if not stopped.was_running:
        _say_not_running(ctx)
    elif ctx.json:
        output.json({"status": "stopped", "forced": stopped.forced})
    else:
        output.line("Daemon stopped")
    if stopped.was_running and ctx.settings.daemon_url is None:
        _say_what_became_of_jobs(ctx, stopped, kill=kill)


@daemon.command()
@click.option("--kill", is_flag=True, help="End everything that runs as well.")
@pass_ctx
def restart(ctx: Ctx, *, kill: bool) -> None:
    """Stop the daemon if it runs, and start it."""
    with autostart.restart(ctx.settings, kill=kill) as client:
        _result(ctx, "restarted", "Daemon restarted", client.call("DaemonStatus"))


@daemon.command()
@pass_ctx
def status(ctx: Ctx) -> None:
    """Show how the daemon is, and each of its settings with the reason for it."""
    info = _info(ctx)
    if info is None:
        _say_not_running(ctx)
        return
    if ctx.json:
        output.reply(info)
        return
    if not info["state_dir"]:  # all that a token for less than the daemon may know
        version = _version_line(info["version"], is_far=ctx.settings.daemon_url is not None)
        output.fields([("Status", output.status(info["status"])), ("Version", version)])
        return
    waiting = info.get("notifications_waiting", 0)
    output.fields([
        ("Status", output.status(info["status"])),
        ("Version", _version_line(info["version"], is_far=ctx.settings.daemon_url is not None)),
        ("Uptime", info["uptime"]),
        ("Jobs", f"{info['jobs_active']} active"),
        ("PID", str(info["pid"])),
        ("Profile", info["profile"]),
        ("State", info["state_dir"]),
        ("Log", f"record {info['seq']} of epoch {info['epoch']}"),
        *([("Address", info["address"])] if info.get("address") else []),
        *([("Fingerprint", info["tls_fingerprint"])] if info.get("tls_fingerprint") else []),
        ("Ready", "yes" if info.get("ready", True) else f"no ({'; '.join(info['waits_for'])})"),
        *([("Notifications", f"{waiting} waiting")] if waiting else []),
    ])  # fmt: skip
    output.line()
    output.table(
        ["SETTING", "VALUE", "BECAUSE"],
        [
            [choice["name"], choice["value"], output.context(choice["reason"])]
            for choice in info["settings"]
        ],
    )
    for warning in info["warnings"]:
        diagnostics.warn(warning)


@daemon.command()
@click.option(
    "-n",
    "--lines",
    "limit",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="How many lines.",
)
@click.option("--no-limit", is_flag=True, help="All lines of the newest file.")
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is added.")
@pass_ctx
def logs(ctx: Ctx, *, limit: int, no_limit: bool, follow: bool) -> None:
    """Show the daemon's log; also when it does not run."""
    if ctx.settings.daemon_url is not None:
        from oj_cli import far_log  # noqa: PLC0415 - only for a daemon on another machine

        far_log.show(ctx, limit=None if no_limit else limit or None, follow=follow)
        return
    path = ctx.settings.log_path
    file = _open(path)
    if file is None and not ctx.json:
        diagnostics.say(
            "The daemon logs to its stdout here: see kubectl logs, docker logs or journalctl"
            if ctx.settings.log_stdout
            else f"No log at {path}"
        )
    text = b"" if file is None else _tail(file, None if no_limit else limit or None)
    if ctx.json:
        if follow:
            diagnostics.warn("-f is ignored with -o json")
        output.json({"log_path": str(path), "lines": lines_of(text.decode("utf-8", "replace"))})
    else:
        rest = _show(text, is_last=not follow)
        if follow:
            _follow(path, file, rest, ctx.settings.log_poll_ms / 1000)
            return
    if file is not None:
        file.close()


@daemon.command()
@click.option("--dismiss", metavar="ID", help="Forget this one.")
@pass_ctx
def orphans(ctx: Ctx, *, dismiss: str | None) -> None:
    """Jobs that no daemon knows: there can be none, because jobs come from the log alone."""
    if dismiss is not None:
        raise click.UsageError(
            f"there is no orphaned job '{dismiss}'; jobs come from the log alone, so none can be orphaned"
        )
    if ctx.json:
        output.json([])
    else:
        output.line("No orphaned jobs detected.")


daemon.add_command(manifest)
daemon.add_command(connect)


def _info(ctx: Ctx) -> dict[str, Any] | None:
    """What the daemon tells about itself; None when there is none."""
    try:
        with ctx.client() as client:
            try:
                return client.call("DaemonStatus")
            except WireError as failure:
                if failure.code != "closed":
                    raise
                # It was ending just then: asked again, nobody listens any more, or the next one answers.
                return client.call("DaemonStatus")
    except WireError as failure:
        if failure.code == "unavailable" and ctx.settings.daemon_url is None:
            return None
        autostart.note_failure(ctx.settings, failure)
        raise


def _version_line(theirs: str, *, is_far: bool = False) -> str:
    from oj_daemon.build import identity  # noqa: PLC0415 - 14 ms; only for the status

    ours = identity()
    if theirs == ours:
        return theirs
    if is_far:
        return f"{theirs} (this oj is {ours})"
    return f"{theirs} (this oj is {ours}; `oj daemon restart` makes the daemon the same)"


def _result(ctx: Ctx, status: str, text: str, info: dict[str, Any]) -> None:
    if ctx.json:
        output.json(
            {
                "status": status,
                **{name: info[name] for name in ("version", "pid", "uptime_secs", "uptime")},
            }
        )
    else:
        output.line(text)
    for warning in info["warnings"]:
        diagnostics.warn(warning)


def _say_not_running(ctx: Ctx) -> None:
    if ctx.json:
        output.json({"status": "not_running"})
    else:
        output.line(NOT_RUNNING)


def _say_what_became_of_jobs(ctx: Ctx, stopped: autostart.Stopped, *, kill: bool) -> None:
    from oj_cli.commands.doctor import step_processes  # noqa: PLC0415 - looks at every process

    left = step_processes(str(ctx.settings.state_dir))
    if left:
        diagnostics.say(going_on(len(left)))
    elif kill and stopped.jobs_active:
        jobs = "1 job was" if stopped.jobs_active == 1 else f"{stopped.jobs_active} jobs were"
        diagnostics.say(f"{jobs} active; what ran was ended: oj job list --status suspended")


def going_on(count: int) -> str:
    """What is said about jobs whose steps run while no daemon does."""
    jobs = "Steps of 1 job go" if count == 1 else f"Steps of {count} jobs go"
    return f"{jobs} on without the daemon; oj daemon start takes them up again"


def _become_daemon(ctx: Ctx, *arguments: str) -> NoReturn:
    """Turn this process into the daemon: no trace of click in its memory, and the same process for who supervises it."""
    _become(autostart.command(ctx.settings, *arguments))


def _become(daemon: autostart.Command) -> NoReturn:
    argv, folder, environ = daemon
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(folder)
    os.execve(argv[0], argv, environ)  # noqa: S606 - our own interpreter and package


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _tail(file: BinaryIO, limit: int | None) -> bytes:
    """The last lines of a file, which is then read to its end."""
    start, data = file.seek(0, os.SEEK_END), b""
    while start > 0 and (limit is None or data.count(b"\n") <= limit):
        size = min(BLOCK, start)
        start -= size
        file.seek(start)
        data = file.read(size) + data
    file.seek(start + len(data))
    lines = data.splitlines(keepends=True)
    return b"".join(lines if limit is None else lines[-limit:])


def _show(data: bytes, *, is_last: bool = False) -> bytes:
    """Print whole lines; returns the beginning of a line whose end is still to come."""
    whole, newline, rest = (data, b"", b"") if is_last else data.rpartition(b"\n")
    output.block((whole + newline).decode("utf-8", "replace"))
    return rest


def _follow(path: Path, file: BinaryIO | None, rest: bytes, pause: float) -> None:
    """Show what is added to the log, also when it is rotated or made anew, until somebody has had enough."""
    from time import sleep  # noqa: PLC0415, TID251 - only for -f; a file tells nobody that it grew

    try:
        while True:
            # Asked before reading: the last lines of a file that is moved away meanwhile belong to it.
            has_moved = file is not None and not _is_at(file, path)
            if file is not None:
                if os.fstat(file.fileno()).st_size < file.tell():
                    file.seek(0)
                rest = _show(rest + file.read())
            if has_moved and file is not None:
                file.close()
                file = None
            if file is None:
                file = _open(path)
                if file is not None:
                    continue
            sleep(pause)
    except KeyboardInterrupt:
        return
    finally:
        if file is not None:
            file.close()


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the open file is still the one with that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
