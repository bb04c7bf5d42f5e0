"""Start, replace and end the daemon of this machine.

Rule: only the daemon touches the state folder; whether one runs is settled by its lock, so starting two at once is harmless:
one loses, says so with its exit code, and everybody connects to the other. A daemon is named by the process that listens at
the other end of its socket, never by a number in a file alone. A daemon that was asked for over the network is never started.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
import time
from contextlib import contextmanager
from typing import NamedTuple

from oj_cli import diagnostics
from oj_daemon.errors import OjError, WireError
from oj_daemon.settings import READY, START_MARKER
from oj_daemon.wire.client import Client
from oj_daemon.wire.names import PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from typing import IO

    from oj_daemon.settings import Settings

ALREADY_RUNNING = 75
"""Exit code of a detached daemon that lost the race for the lock; the same as in oj_daemon/main.py."""
LOG_TAIL = 100 << 10
"""Bytes at the end of daemon.log in which the reason of a failed start is looked for."""
LEAST_MARGIN_MS = 1000
"""How much longer than its drain a daemon gets to end, at least."""
REASON_LINES = 5
GONE = ("unavailable", "closed")
"""Codes of a greeting that nobody answered: none listens, or the one that did was just ending."""
HINT = "oj daemon logs"


class Stopped(NamedTuple):
    """What became of a daemon that was to end."""

    was_running: bool
    forced: bool = False
    """It did not end by itself in time and was killed."""
    jobs_active: int = 0
    """How many jobs had not ended when it was asked to end."""


class Command(NamedTuple):
    """How to run a daemon with the very package that we are."""

    argv: list[str]
    folder: str
    environ: dict[str, str]


def connect(settings: Settings) -> Client:
    """A connection to a daemon that speaks our protocol, started or replaced if it has to be: one of this machine."""
    client = Client(settings)
    try:
        client.greet()
    except WireError as failure:
        client.close()
        is_ours = settings.daemon_url is None
        if failure.code in GONE and is_ours:
            return start(settings)
        if failure.code == "incompatible" and is_ours:
            return _replace(settings, failure, client.daemon_protocol)
        note_failure(settings, failure)
        raise
    return client


def start(settings: Settings, *arguments: str) -> Client:
    """Start a daemon in the background, or find that somebody else just did; returns a connection to it."""
    must_be_ours(settings, "start")
    deadline = time.monotonic() + settings.timeout_connect_ms / 1000
    try:
        with _temporary_file() as stderr:
            child = _spawn(settings, stderr, *arguments)
            try:
                if not _is_ready(child, deadline):
                    _explain_failure(settings, child, stderr)
                return _await_socket(settings, deadline)
            except WireError as failure:
                if failure.code == "timeout":
                    _explain_silence(settings, child.pid)
                raise
    except OjError as failure:
        note_failure(settings, failure)
        raise


def stop(settings: Settings, *, kill: bool = False) -> Stopped:
    """End the daemon and wait until it is gone: by request, else by SIGTERM; by SIGKILL when it takes too long.

    With `kill` it ends what it runs as well.
    """
    if settings.daemon_url is not None:
        return _stop_afar(settings, kill=kill)
    client = Client(settings)
    try:
        client.connect()
        pid = client.peer_pid or _recorded_pid(settings)
    except WireError as failure:
        if failure.code != "unavailable":
            raise
        # It may be starting, or have lost its socket: then its record tells.
        pid = _recorded_pid(settings)
    if pid is None:
        return Stopped(was_running=False)
    with _Process(pid) as process:
        patience = settings.drain_ms + max(settings.timeout_exit_ms, LEAST_MARGIN_MS)
        jobs_active = 0
        try:
            reply = client.call("DaemonStop", kill=kill)
            patience = int(reply["drain_seconds"] * 1000) + max(
                settings.timeout_exit_ms, LEAST_MARGIN_MS
            )
            jobs_active = reply.get("jobs_active", 0)
        except WireError as failure:
            # A daemon of another protocol, or one that hangs: the signal means the same to all of them.
            if kill and failure.code == "incompatible":
                diagnostics.warn(
                    "this daemon is of another version and cannot be told to end what it runs; it goes on"
                )
            process.send(signal.SIGTERM)
        finally:
            client.close()
        if process.is_gone_within(patience):
            return Stopped(was_running=True, jobs_active=jobs_active)
        process.send(signal.SIGKILL)
        if not process.is_gone_within(settings.timeout_exit_ms):
            raise OjError(
                f"the daemon (pid {pid}) does not end, not even by SIGKILL",
                code="timeout",
                hint="ps -p " + str(pid),
            )
    return Stopped(was_running=True, forced=True, jobs_active=jobs_active)


def restart(settings: Settings, *, kill: bool = False) -> Client:
    """End the daemon if it runs, and start one."""
    must_be_ours(settings, "restart")
    with _alone(settings):
        report_forced(stop(settings, kill=kill))
        return start(settings)


def must_be_ours(settings: Settings, verb: str) -> None:
    """Raise where OJ_DAEMON_URL names a daemon of another machine."""
    if settings.daemon_url is not None:
        raise OjError(
            f"cannot {verb} {settings.daemon_url}: a daemon on another machine is started there",
            code="invalid",
            hint=f"unset OJ_DAEMON_URL to {verb} the daemon of this machine",
        )


def _stop_afar(settings: Settings, *, kill: bool) -> Stopped:
    """Ask it to end, and wait until it hangs up. Whoever looks after it may well start it again."""
    with Client(settings) as client:
        reply = client.call("DaemonStop", kill=kill)
        patience = int(reply["drain_seconds"] * 1000) + LEAST_MARGIN_MS
        if not client.is_gone_within(patience):
            raise OjError(
                f"the daemon at {settings.daemon_url} was told to end and has not hung up for {patience / 1000:g} s",
                code="timeout",
                hint="oj daemon status",
            )
    return Stopped(was_running=True, jobs_active=reply.get("jobs_active", 0))


def command(settings: Settings, *arguments: str) -> Command:
    """The command line of a daemon, with the folder and the environment to run it in."""
    return program(settings.daemon_environ(), *arguments)


def program(environ: dict[str, str], *arguments: str) -> Command:
    """The same in a given environment."""
    from pathlib import Path  # noqa: PLC0415 - 4 ms; only when a daemon is started

    import oj_daemon  # noqa: PLC0415 - the same

    folder = Path(oj_daemon.__file__).resolve().parent.parent
    installed = folder.name in ("site-packages", "dist-packages")
    # From a checkout the package is found by the current folder alone; an installed one must not find other
    # packages there first, and lets every folder go.
    isolated = ["-P"] if installed else []
    if not sys.executable:
        raise OjError(
            "Failed to start daemon: Python does not know its own path", code="start_failed"
        )
    argv = [sys.executable, *isolated, "-m", "oj_daemon", *arguments]
    return Command(argv, "/" if installed else str(folder), environ)


def note_failure(settings: Settings, failure: OjError) -> None:
    """Leave a line in cli.log: the daemon's own log cannot tell who found it missing."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entry = f"{moment} pid={os.getpid()} cwd={_cwd()} state={settings.state_folder} {failure.message}".replace(
        "\n", " "
    )
    try:
        with settings.cli_log_path.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(entry + "\n")
    except OSError:
        return  # no state folder yet, or a read-only one: the user is told anyway


# Starting


def _spawn(settings: Settings, stderr: IO[bytes], *arguments: str) -> subprocess.Popen[bytes]:
    import subprocess  # noqa: PLC0415 - 10 ms; only when a daemon is started

    argv, folder, environ = command(settings, "--detached", *arguments)
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=folder,
            env=environ,
            start_new_session=True,
        )
    except OSError as exc:
        raise WireError(
            f"Failed to start daemon: {exc.strerror or exc}", code="start_failed", hint="oj doctor"
        ) from exc


def _is_ready(child: subprocess.Popen[bytes], deadline: float) -> bool:
    """Wait for the child's READY; False when it has ended instead."""
    stdout = child.stdout
    assert stdout is not None  # noqa: S101 - it is a pipe
    said = b""
    with stdout:
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([stdout], [], [], left)[0]:
                break
            data = os.read(stdout.fileno(), 4096)
            said += data
            if READY.encode() in said:
                # It lives on without us; nobody will ever collect it but init.
                child.returncode = 0
                return True
            if not data:
                child.wait()
                return False
    child.returncode = 0
    raise WireError(
        "Connection timeout waiting for daemon to start",
        code="timeout",
        hint="it may still be reading its log: oj daemon logs; OJ_TIMEOUT_CONNECT_MS gives it more time",
    )


def _explain_failure(settings: Settings, child: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
    """Raise the reason why the child ended, unless it is that another daemon runs."""
    if child.returncode == ALREADY_RUNNING:
        return
    stderr.seek(0)
    message, hint = _told(stderr.read().decode("utf-8", "replace"))
    if not message:
        message = _logged(settings) or _exit_status(child.returncode)
    raise WireError(f"Failed to start daemon: {message}", code="start_failed", hint=hint or HINT)


def _await_socket(settings: Settings, deadline: float) -> Client:
    """Connect to the daemon that is there or about to be there."""
    while True:
        client = Client(settings)
        try:
            client.greet()
        except WireError as failure:
            client.close()
            if failure.code not in GONE:
                raise
            if time.monotonic() > deadline:
                raise WireError(
                    "Connection timeout waiting for daemon to start", code="timeout", hint=HINT
                ) from failure
        else:
            return client
        # There is nothing else to wait for: the socket of a daemon that somebody else has started.
        time.sleep(settings.connect_poll_ms / 1000)  # noqa: TID251 - see above


def _explain_silence(settings: Settings, ours: int) -> None:
    """Raise when another daemon than the one that we have started runs and does not listen."""
    pid = _recorded_pid(settings)
    if pid not in (None, ours) and not settings.socket_path.exists():
        raise WireError(
            f"a daemon runs (pid {pid}), but there is no socket {settings.socket_address}:"
            " it is still reading its log, or somebody has removed the socket",
            code="silent",
            hint="oj daemon logs; if it stays like this: oj daemon restart",
        )


def _told(text: str) -> tuple[str, str]:
    """The message and the hint in what a daemon wrote to stderr before it ended."""
    message, hint = "", ""
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        if line.startswith("Error: "):
            message = line.removeprefix("Error: ")
        elif line.startswith("Hint: "):
            hint = line.removeprefix("Hint: ")
    if not message and lines:
        # Not an error that was foreseen: the last line of a traceback names it.
        message = lines[-1]
    return message, hint


def _logged(settings: Settings) -> str:
    """The errors of the newest run in daemon.log."""
    try:
        with settings.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return ""
    newest = text.rpartition(START_MARKER)[2].splitlines()[1:]
    errors = [
        line.split(": ", 1)[-1] for line in newest if " ERROR " in line or " CRITICAL " in line
    ]
    return "; ".join(errors[-REASON_LINES:])


def _exit_status(code: int) -> str:
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with exit code {code}"


def _temporary_file() -> IO[bytes]:
    from tempfile import TemporaryFile  # noqa: PLC0415 - 10 ms; only when a daemon is started

    return TemporaryFile()


# Replacing


def _replace(settings: Settings, failure: WireError, theirs: int) -> Client:
    """Put a daemon of our version into the place of an older one; only one `oj` at a time does so."""
    if theirs > PROTOCOL:
        # An older program must not take over what a newer one wrote.
        raise WireError(
            failure.message,
            code="incompatible",
            hint="this oj is older than its daemon: upgrade it",
        ) from failure
    with _alone(settings):
        client = Client(settings)
        try:
            client.greet()
        except WireError as again:
            client.close()
            if again.code == "incompatible":
                diagnostics.warn(f"{again.message}; restarting the daemon")
                report_forced(stop(settings))
            elif again.code not in GONE:
                raise
        else:
            return client  # somebody else has done it while we waited
        return start(settings)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Be the only one who replaces the daemon."""
    import filelock  # noqa: PLC0415 - 30 ms; only when a daemon is replaced

    patience = (
        settings.drain_ms + 2 * settings.timeout_exit_ms + settings.timeout_connect_ms
    ) / 1000
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = filelock.FileLock(settings.restart_lock_path, timeout=patience, mode=0o600)
    try:
        lock.acquire()
    except filelock.Timeout as exc:
        raise WireError(
            "another oj is restarting the daemon and does not finish", code="timeout", hint=HINT
        ) from exc
    try:
        yield
    finally:
        lock.release()


def report_forced(stopped: Stopped) -> None:
    """Say so when a daemon had to be killed."""
    if stopped.forced:
        diagnostics.warn(
            "the daemon did not end in time and was killed; what it had acknowledged is in its log"
        )


# Ending


class _Process:
    """One process to signal and to wait for, safe from its number being used again where the kernel helps."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._fd = -1
        self._gone = False
        if hasattr(os, "pidfd_open"):
            try:
                self._fd = os.pidfd_open(pid)
            except OSError as exc:
                self._gone = exc.errno == errno.ESRCH

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that is gone needs none."""
        try:
            if self._fd >= 0:
                signal.pidfd_send_signal(self._fd, number)
            elif not self._gone:
                os.kill(self._pid, number)
        except ProcessLookupError:
            self._gone = True
        except PermissionError as exc:
            raise OjError(
                f"end the daemon (pid {self._pid}): it belongs to another user", code="denied"
            ) from exc

    def is_gone_within(self, milliseconds: int) -> bool:
        """Wait for its end."""
        if self._gone:
            return True
        if self._fd >= 0:
            return bool(select.select([self._fd], [], [], milliseconds / 1000)[0])
        deadline = time.monotonic() + milliseconds / 1000
        while time.monotonic() < deadline:
            try:
                os.kill(self._pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.05)  # noqa: TID251 - without a pidfd there is nothing to wait for
        return False


def _recorded_pid(settings: Settings) -> int | None:
    """The process of daemon.pid, if it is the one that wrote the file: numbers are used again."""
    from pathlib import Path  # noqa: PLC0415 - 4 ms; only when a daemon is ended

    try:
        record = json.loads(settings.pid_path.read_text("utf-8"))
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        fields = (
            Path(f"/proc/{record['pid']}/stat")
            .read_text("utf-8", "replace")
            .rpartition(")")[2]
            .split()
        )
        same = (
            record["boot_id"] == boot
            and record["start_time"] == fields[19]
            and fields[0] not in "ZX"
        )
        return int(record["pid"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _cwd() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - no pathlib for one call
    except OSError:
        return "?"
