"""`oj doctor`: what works here, and how to mend the rest.

Rule: looks, and changes nothing; a check that cannot be made says so and is no failure. Each check is a function that
yields findings; `CHECKS` is their order on the screen.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from oj_cli import output
from oj_cli.context import Ctx, pass_ctx
from oj_cli.diagnostics import ExitCode
from oj_daemon.errors import OjError, WireError
from oj_daemon.wire.names import PROTOCOL

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"
COLORS: Final = {OK: "green", WARN: "yellow", FAIL: "red"}
LEAST_PYTHON: Final = (3, 11)
LEAST_BASH: Final = (4, 4)
"""Steps run with `set -euo pipefail`; before 4.4 an empty array counts as unset."""
LEAST_GIT: Final = (2, 20)
"""`git worktree` as jobs use it."""
LOW_BYTES: Final = 500 << 20
FULL_BYTES: Final = 50 << 20
NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3"}
)
"""File system types on which locks, sockets or fsync may not do what they say."""
OLDEST_CLOCK_SECONDS: Final = 1_735_689_600
"""The year 2025: no clock that is right shows less."""
AHEAD_SECONDS: Final = 120
PROGRAM_SECONDS: Final = 10
SHOWN_PIDS: Final = 5


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    status: str
    detail: str
    fix: str = ""


@click.command()
@pass_ctx
def doctor(ctx: Ctx) -> int:
    """Say what works here and how to mend the rest.

    Looks at the programs that steps need, the state folder, the daemon and this project's runbooks. Exits with 1 when
    something is broken.
    """
    checks = CHECKS if ctx.settings.daemon_url is None else FAR_CHECKS
    findings = [finding for check in checks for finding in check(ctx)]
    is_healthy = all(finding.status != FAIL for finding in findings)
    if ctx.json:
        rows = [finding._asdict() for finding in findings]
        output.json({"ok": is_healthy, "checks": rows})
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mark = output.status(COLORS[finding.status], f"{finding.status:4}")
            output.line(mark, "  ", output.header(finding.name.ljust(width)), "  ", finding.detail)
            if finding.fix:
                output.line(" " * (width + 8), output.context("fix: "), finding.fix)
    return ExitCode.OK if is_healthy else ExitCode.FAILED


def check_python(_ctx: Ctx) -> Iterator[Finding]:
    """The interpreter and this program."""
    from oj_daemon.build import identity  # noqa: PLC0415 - reads the git folder

    version = ".".join(map(str, sys.version_info[:3]))
    is_new = sys.version_info >= LEAST_PYTHON
    yield Finding(
        "python",
        OK if is_new else FAIL,
        f"{version} ({sys.executable}), oj {identity()}",
        "" if is_new else "install Python 3.11 or newer and `oj` into it",
    )


def check_bash(ctx: Ctx) -> Iterator[Finding]:
    """The shell that runs every step."""
    yield _program(ctx, "bash", LEAST_BASH, FAIL, "install bash: every shell step is run by it")


def check_git(ctx: Ctx) -> Iterator[Finding]:
    """What jobs with `source = { git = true }` need."""
    yield _program(ctx, "git", LEAST_GIT, WARN, "install git: jobs with a git source need it")


def check_agents(ctx: Ctx) -> Iterator[Finding]:
    """The programs that agents run, and what their drivers cannot do."""
    from oj_daemon import drivers  # noqa: PLC0415 - loads msgspec; only here
    from oj_daemon.drivers.base import cannot  # noqa: PLC0415 - as above

    wanted = _drivers_wanted(ctx)
    for name in drivers.driver_names():
        limits = cannot(drivers.load_driver(name).capabilities)
        told = f"; cannot {', '.join(limits)}" if limits else ""
        if name not in drivers.PROGRAMS.values():
            yield Finding(f"agent {name}", OK, f"any other program{told}")
        elif name in wanted:
            fix = f"install {name}: agents of this project run it"
            found = _program(ctx, name, (0, 0), WARN, fix)
            yield found._replace(name=f"agent {name}", detail=f"{found.detail}{told}")
        else:
            path = shutil.which(name, path=_path_of(ctx))
            yield Finding(
                f"agent {name}", OK, f"{path or 'not found on PATH, and not needed here'}{told}"
            )


def _drivers_wanted(ctx: Ctx) -> set[str]:
    """The drivers of the agents that this project's runbooks define, as far as they can be read."""
    from oj_cli.runnable import catalog_of, read_texts  # noqa: PLC0415 - loads the runbook reader

    try:
        texts, _ = read_texts(ctx, None)
        books = catalog_of(texts).runbooks
    except OjError:
        return set()
    return {agent.driver for book in books for agent in book.agents.values()}


def check_settings(ctx: Ctx) -> Iterator[Finding]:
    """What the environment says and was not understood."""
    for warning in ctx.settings.warnings:
        yield Finding("settings", WARN, warning, "correct or unset that variable")
    if not ctx.settings.warnings:
        yield Finding("settings", OK, f"profile {ctx.settings.profile}")


def check_state_folder(ctx: Ctx) -> Iterator[Finding]:
    """Whether jobs can be kept safe."""
    folder = ctx.settings.state_dir
    if not folder.exists():
        parent = next(above for above in folder.parents if above.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield Finding("state folder", OK, f"{folder} (made when first needed)")
        else:
            yield Finding(
                "state folder",
                FAIL,
                f"{folder} does not exist and {parent} is not writable",
                "set OJ_STATE_DIR to a folder of your own",
            )
        folder = parent
    else:
        yield _access(folder)
    free = shutil.disk_usage(folder).free
    status = FAIL if free < FULL_BYTES else WARN if free < LOW_BYTES else OK
    yield Finding(
        "disk space",
        status,
        f"{_size(free)} free for the state folder",
        ""
        if status == OK
        else "oj job prune; oj workspace prune; or set OJ_STATE_DIR to a larger disk",
    )
    kind = file_system(folder)
    if kind in NETWORK:
        yield Finding(
            "file system",
            WARN,
            f"the state folder is on {kind}, where locks and sockets may fail",
            "set OJ_STATE_DIR to a folder on a local disk",
        )
    elif kind:
        yield Finding("file system", OK, f"{kind} holds the state folder")


def check_socket(ctx: Ctx) -> Iterator[Finding]:
    """Whether the daemon's address fits into what the system allows."""
    from oj_daemon.settings import SOCKET_PATH_LIMIT  # noqa: PLC0415 - as all of settings, when used

    path = os.fsencode(ctx.settings.socket_address)
    is_short = len(path) <= SOCKET_PATH_LIMIT
    yield Finding(
        "socket path",
        OK if is_short else FAIL,
        f"{len(path)} of at most {SOCKET_PATH_LIMIT} bytes",
        "" if is_short else "set OJ_STATE_DIR to a folder with a shorter path",
    )


def check_daemon(ctx: Ctx) -> Iterator[Finding]:
    """Whether a daemon answers, and whether it is of this build."""
    from oj_daemon.build import identity  # noqa: PLC0415 - reads the git folder

    try:
        with ctx.client() as client:
            info = client.call("DaemonStatus")
    except OjError as failure:
        yield from _unreachable(ctx, failure)
        return
    where = (
        f"pid {info['pid']}, up {info['uptime']}" if info["pid"] else "reached by a scoped token"
    )
    if info["protocol"] != PROTOCOL:
        yield Finding(
            "daemon",
            FAIL,
            f"{where}, speaks protocol {info['protocol']}, this oj speaks {PROTOCOL}",
            _renew(ctx),
        )
    elif info["version"] not in (identity(), identity().partition("+")[0]):
        detail = f"{where}, version {info['version']}; this oj is {identity()}"
        yield Finding("daemon", WARN, detail, _renew(ctx))
    elif info["status"] != "running":
        yield Finding(
            "daemon",
            WARN,
            f"{where}, {info['status']}",
            "wait for it to end; it starts again by itself",
        )
    else:
        yield Finding("daemon", OK, f"{where}, version {info['version']}")
    for warning in info["warnings"]:
        yield Finding("daemon", WARN, warning, "oj daemon status")


def check_notifications(ctx: Ctx) -> Iterator[Finding]:
    """How people are told; nothing is sent, that it arrives shows with the first notification."""
    chosen = {choice.name: choice.value for choice in ctx.settings.choices()}
    whose = "a daemon that starts now"
    try:
        with ctx.client() as client:
            info = client.call("DaemonStatus")
        chosen |= {choice["name"]: choice["value"] for choice in info["settings"]}
        whose = "the daemon"
    except OjError:
        pass  # check_daemon has said so
    if chosen.get("webhook", "none") == "none":
        detail = "none; OJ_NOTIFY_WEBHOOK_URL names one, for chats and phones"
    else:
        signed = "unsigned" if chosen.get("webhook_secret", "none") == "none" else "signed"
        least = chosen.get("notify_severity", "info")
        detail = f"{whose} posts what is at least {least}, {signed}"
    yield Finding("webhook", OK, detail)
    environ = ctx.settings.inherited.reveal()
    if chosen.get("notify_desktop") != "yes":
        detail = "off; OJ_NOTIFY_DESKTOP=1 turns it on"
    elif sys.platform.startswith("linux") and not (
        environ.get("DBUS_SESSION_BUS_ADDRESS") or environ.get("DISPLAY")
    ):
        detail = "on, but this session has no D-Bus: nothing appears"
    else:
        detail = f"{whose} shows notifications where there is a desktop"
    yield Finding("desktop", OK, detail)


def check_processes(ctx: Ctx) -> Iterator[Finding]:
    """Processes of steps that no live job accounts for."""
    found = step_processes(str(ctx.settings.state_dir))
    if found is None:
        yield Finding("step processes", OK, "cannot be listed on this system")
        return
    count = sum(map(len, found.values()))
    try:
        with ctx.client() as client:
            left = {job_id: pids for job_id, pids in found.items() if not _is_live(client, job_id)}
    except WireError:
        if not found:
            yield Finding("step processes", OK, "none")
        else:
            detail = f"{count} of {len(found)} jobs go on without a daemon"
            yield Finding("step processes", WARN, detail, "oj daemon start")
        return
    if not left:
        yield Finding("step processes", OK, f"{count} of live jobs" if count else "none")
    for job_id, pids in left.items():
        shown = " ".join(map(str, pids[:SHOWN_PIDS])) + (" ..." if len(pids) > SHOWN_PIDS else "")
        yield Finding(
            "step processes",
            WARN,
            f"{len(pids)} left behind by {job_id}, which has ended: {shown}",
            f"kill {' '.join(map(str, pids))}",
        )


def check_project(ctx: Ctx) -> Iterator[Finding]:
    """The project around this folder and its runbooks."""
    from oj_cli.commands.runbook import problems_of  # noqa: PLC0415 - loads the runbook reader

    try:
        name, root = ctx.project, ctx.root
    except OjError as failure:
        yield Finding("project", FAIL, failure.message, failure.hint)
        return
    if not (root / ".oj").is_dir():
        yield Finding("project", WARN, f"{name} ({root}) has no .oj folder", "oj init")
        return
    yield Finding("project", OK, f"{name} ({root})")
    files, broken = problems_of(ctx)
    if broken:
        yield Finding(
            "runbooks",
            FAIL,
            f"{broken} of {files} {'files has' if broken == 1 else 'files have'} errors",
            "oj runbook check",
        )
    elif files:
        yield Finding("runbooks", OK, f"{files} {'file' if files == 1 else 'files'}")
    else:
        yield Finding("runbooks", WARN, "none in .oj/runbooks", "oj init")


def check_clock(ctx: Ctx) -> Iterator[Finding]:
    """Timers, ages and time stamps go by it."""
    from oj_daemon.wire.format import moment, now_ms  # noqa: PLC0415 - small, but only here

    now = now_ms() / 1000
    newest = max((_modified(path) for path in _entries(ctx.settings.state_dir)), default=0.0)
    if now < OLDEST_CLOCK_SECONDS:
        yield Finding("clock", FAIL, f"shows {moment(int(now * 1000))}", "set the system clock")
    elif newest > now + AHEAD_SECONDS:
        detail = f"the state folder was changed {int(newest - now)} s in the future"
        yield Finding(
            "clock", WARN, detail, "check the system clock; timers wait until it has caught up"
        )
    else:
        yield Finding("clock", OK, moment(int(now * 1000)))


CHECKS: Final = (
    check_python,
    check_bash,
    check_git,
    check_agents,
    check_settings,
    check_state_folder,
    check_socket,
    check_daemon,
    check_notifications,
    check_processes,
    check_project,
    check_clock,
)
FAR_CHECKS: Final = (
    check_python,
    check_bash,
    check_git,
    check_settings,
    check_daemon,
    check_project,
    check_clock,
)
"""Of a daemon on another machine: its state folder, processes and agents are there, and cannot be looked at from here."""


def file_system(folder: Path) -> str:
    """The type of the file system that a folder is on; "" where the system does not tell."""
    try:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        device = folder.stat().st_dev
    except OSError:
        return ""
    found = ""
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        # Of several mounts of one device any will do: the type is the device's.
        if fields.split()[2] == f"{os.major(device)}:{os.minor(device)}":
            found = rest.split()[0]
    return found


def step_processes(state_folder: str) -> dict[str, list[int]] | None:
    """Job id -> its processes on this machine, by the cookie that each carries; None where they cannot be listed."""
    try:
        import psutil  # noqa: PLC0415 - 20 ms, only here
    except ImportError:
        return None
    found: dict[str, list[int]] = {}
    for process in psutil.process_iter():
        try:
            environ = process.environ()
        except (psutil.Error, OSError):
            continue
        if environ.get("OJ_STATE_DIR") != state_folder:
            continue
        # `<instance>:<job id>:<run>`, several with spaces between when one step runs in another; the last is its own.
        parts = environ.get("OJ_STEP", "").rpartition(" ")[2].split(":")
        if len(parts) > 1:
            found.setdefault(parts[1], []).append(process.pid)
    return found


def lock_holder(path: Path) -> int | None:
    """The process that holds the lock on a file; None when it is free or the system does not tell."""
    try:
        about = path.stat()
        locks = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    match = re.search(rf"^\d+: FLOCK +\S+ +WRITE +(\d+) {re.escape(place)} ", locks, re.MULTILINE)
    return int(match[1]) if match else None


def _path_of(ctx: Ctx) -> str:
    return str(ctx.settings.inherited.reveal().get("PATH", os.defpath))


def _program(ctx: Ctx, name: str, least: tuple[int, int], missing: str, fix: str) -> Finding:
    path = shutil.which(name, path=_path_of(ctx))
    if path is None:
        return Finding(name, missing, "not found on PATH", fix)
    try:
        asked = subprocess.run(
            [path, "--version"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=PROGRAM_SECONDS,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        return Finding(name, FAIL, f"{path} cannot be run: {failure}", fix)
    match = re.search(r"(\d+)\.(\d+)(?:\.\d+)?", asked.stdout)
    if match is None:
        return Finding(name, WARN, f"{path} does not say its version", "")
    if (int(match[1]), int(match[2])) < least:
        wanted = ".".join(map(str, least))
        return Finding(name, WARN, f"{match[0]} ({path})", f"install {name} {wanted} or newer")
    return Finding(name, OK, f"{match[0]} ({path})")


def _access(folder: Path) -> Finding:
    about = folder.stat()
    if not folder.is_dir():
        return Finding(
            "state folder", FAIL, f"{folder} is no folder", "set OJ_STATE_DIR to a folder"
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            "state folder",
            FAIL,
            f"{folder} is not readable and writable for you (owner {about.st_uid}, mode {about.st_mode & 0o777:o})",
            "set OJ_STATE_DIR to a folder of your own",
        )
    if about.st_uid == os.getuid() and about.st_mode & 0o077:
        return Finding(
            "state folder",
            WARN,
            f"{folder} is open to other users (mode {about.st_mode & 0o777:o})",
            f"chmod 700 {folder}",
        )
    return Finding("state folder", OK, str(folder))


def _renew(ctx: Ctx) -> str:
    """How daemon and `oj` come to be of one version."""
    if ctx.settings.daemon_url is None:
        return "oj daemon restart"
    return "install the same version of `oj` here and there"


def _unreachable(ctx: Ctx, failure: OjError) -> Iterator[Finding]:
    if ctx.settings.daemon_url is not None:
        yield Finding("daemon", FAIL, failure.message, failure.hint)
        return
    holder = lock_holder(ctx.settings.state_dir / "daemon.lock")
    if holder is not None:
        yield Finding(
            "daemon",
            FAIL,
            f"process {holder} holds the lock but does not answer ({failure.message})",
            f"oj daemon logs; then: kill {holder}",
        )
    elif failure.code == "unavailable":
        yield Finding("daemon", OK, "not running; it starts with the first job")
    else:
        yield Finding("daemon", FAIL, failure.message, failure.hint)


def _is_live(client: Any, job_id: str) -> bool:  # noqa: ANN401 - Client, which is imported when used
    try:
        return client.call("JobShow", id=job_id)["status"] not in (
            "completed",
            "failed",
            "cancelled",
            "suspended",
        )
    except WireError:
        raise
    except OjError:
        return False


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TB"
