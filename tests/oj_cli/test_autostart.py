"""Tests of oj_cli/autostart.py, with real daemons in state folders of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from oj_cli import autostart
from oj_daemon import settings
from oj_daemon.errors import WireError
from oj_daemon.settings import READY, START_MARKER, Settings
from oj_daemon.wire.client import Client
from oj_daemon.wire.names import PROTOCOL

ROOT = Path(__file__).resolve().parents[2]
OK = {"type": "Ok"}


def has_ended(pid: int) -> bool:
    """Whether the daemon, a child of ours, has ended; it is collected."""
    return os.waitpid(pid, os.WNOHANG)[0] == pid


class Place:
    """A state folder, and how to get at what runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def settings(self, **environ: str) -> Settings:
        base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return settings.load(
            {**base, "OJ_STATE_DIR": str(self.folder), "OJ_TIMEOUT_CONNECT_MS": "30000", **environ}
        )

    def pid(self) -> int:
        with Client(self.settings()) as client:
            return int(client.call("DaemonStatus")["pid"])

    def is_running(self) -> bool:
        try:
            self.pid()
        except WireError:
            return False
        return True

    def spawn(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Python with the package, a daemon of it for example."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={**self.settings(**environ).inherited.reveal(), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def place() -> Iterator[Place]:
    """Short, because a socket's path has to be; whatever listens there at the end is ended."""
    found = Place(Path(tempfile.mkdtemp(prefix="oj-", dir="/tmp")))
    yield found
    autostart.stop(found.settings(OJ_DRAIN_TIMEOUT_MS="0"))
    shutil.rmtree(found.folder)


@contextlib.contextmanager
def daemon_of_protocol(place: Place, number: int) -> Iterator[subprocess.Popen[str]]:
    program = (
        f"import oj_daemon.wire.names as names; names.PROTOCOL = {number}\n"
        "from oj_daemon.main import main; raise SystemExit(main([]))"
    )
    child = place.spawn("-c", program)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == f"{READY}\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def test_a_daemon_is_started_when_there_is_none_and_used_when_there_is(place: Place) -> None:
    with autostart.connect(place.settings()) as client:
        assert client.call("Ping") == OK
    first = place.pid()
    with autostart.connect(place.settings()) as client:
        assert client.call("Ping") == OK
    assert place.pid() == first


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
def test_a_daemon_in_the_background_has_nothing_of_its_caller(place: Place) -> None:
    caller = {"OJ_PROJECT": "p", "OJ_JOB_ID": "job-1", "GIT_DIR": "/g", "TMUX": "t", "KEPT": "1"}
    autostart.start(place.settings(**caller)).close()
    pid = place.pid()
    process = Path(f"/proc/{pid}")
    assert os.getsid(pid) == pid
    assert (process / "cwd").readlink() == Path("/")
    assert {(process / "fd" / str(number)).readlink() for number in (0, 1, 2)} == {
        Path("/dev/null")
    }
    inherited = dict(
        entry.split("=", 1) for entry in (process / "environ").read_text().split("\0") if entry
    )
    assert inherited["KEPT"] == "1"
    assert not inherited.keys() & (caller.keys() - {"KEPT"})
    assert (process / "cmdline").read_text().split("\0")[-4:] == [
        "-m",
        "oj_daemon",
        "--detached",
        "",
    ]


def test_several_started_at_once_end_with_one_daemon_for_all(place: Place) -> None:
    program = (
        "from oj_cli import autostart; from oj_daemon import settings\n"
        "with autostart.connect(settings.load()) as client: print(client.call('DaemonStatus')['pid'])"
    )
    children = [place.spawn("-c", program) for _ in range(4)]
    said = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0] * 4, said
    assert {out for out, _ in said} == {f"{place.pid()}\n"}


def test_after_a_kill_the_next_action_recovers(place: Place) -> None:
    autostart.start(place.settings()).close()
    killed = place.pid()
    with autostart._Process(killed) as process:
        process.send(signal.SIGKILL)
        assert process.is_gone_within(20_000)
    assert (place.folder / "daemon.sock").exists()
    assert not place.is_running()
    with autostart.connect(place.settings()) as client:
        assert client.call("Ping") == OK
    assert place.pid() != killed


def test_the_reason_why_a_daemon_cannot_start_is_told_and_noted(place: Place) -> None:
    with pytest.raises(WireError) as failure:
        autostart.connect(place.settings(OJ_LEASE="on"))
    message = (
        "Failed to start daemon: OJ_LEASE=on: find the API server: "
        "KUBERNETES_SERVICE_HOST is not set, so this is no pod"
    )
    assert failure.value.message == message
    assert (failure.value.code, failure.value.hint) == (
        "start_failed",
        "set OJ_K8S_KUBECONFIG to a file with credentials",
    )
    (line,) = (place.folder / "cli.log").read_text().splitlines()
    assert f"pid={os.getpid()} cwd={Path.cwd()} state={place.folder} {message}" in line


def test_a_state_folder_with_too_long_a_path_is_named(place: Place) -> None:
    with pytest.raises(WireError, match=r"socket path too long"):
        autostart.connect(place.settings(OJ_STATE_DIR=str(place.folder / ("x" * 120))))


def test_a_state_folder_that_is_a_file_is_named(place: Place) -> None:
    file = place.folder / "file"
    file.touch()
    with pytest.raises(WireError, match=rf"^(Failed to start daemon: .*{file}|connect to {file})"):
        autostart.connect(place.settings(OJ_STATE_DIR=str(file)))


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("Error: a\nHint: b\n", ("a", "b")),
        ("warning\nError: a\n", ("a", "")),
        (
            "Traceback (most recent call last):\n  File ...\nImportError: no such thing\n",
            ("ImportError: no such thing", ""),
        ),
        ("\n", ("", "")),
    ],
)
def test_what_a_daemon_says_before_it_ends_is_understood(
    stderr: str, expected: tuple[str, str]
) -> None:
    assert autostart._told(stderr) == expected


def test_only_errors_of_the_newest_run_in_the_log_are_a_reason(place: Place) -> None:
    (place.folder / "daemon.log").write_text(
        f"{START_MARKER} 1 pid=1 ---\nT ERROR oj_daemon.x: old\n"
        f"{START_MARKER} 2 pid=2 ---\nT INFO oj_daemon.x: fine\nT CRITICAL oj_daemon.x: new: very\n"
    )
    assert autostart._logged(place.settings()) == "new: very"
    (place.folder / "daemon.log").unlink()
    assert autostart._logged(place.settings()) == ""


def test_an_older_daemon_is_replaced_once_and_the_user_is_told(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon_of_protocol(place, PROTOCOL - 1) as old:
        with autostart.connect(place.settings()) as client:
            assert client.call("Ping") == OK
            assert client.daemon_protocol == PROTOCOL
        assert old.wait(20) == 0
        assert place.pid() != old.pid
    said = capsys.readouterr().err
    assert said.startswith("Warning: the daemon (")
    assert said.endswith("; restarting the daemon\n")
    assert said.count("\n") == 1


def test_a_query_does_not_replace_an_older_daemon(place: Place) -> None:
    with daemon_of_protocol(place, PROTOCOL - 1) as old:
        with (
            pytest.raises(WireError, match="speaks protocol") as failure,
            Client(place.settings()) as client,
        ):
            client.call("Ping")
        assert failure.value.hint == "oj daemon restart"
        assert old.poll() is None


def test_a_newer_daemon_is_left_alone(place: Place) -> None:
    with daemon_of_protocol(place, PROTOCOL + 1) as newer:
        with pytest.raises(WireError, match="speaks protocol") as failure:
            autostart.connect(place.settings())
        assert failure.value.hint == "this oj is older than its daemon: upgrade it"
        assert newer.poll() is None


def test_nobody_replaces_a_daemon_while_another_oj_does(place: Place) -> None:
    limits = dict.fromkeys(
        ("OJ_DRAIN_TIMEOUT_MS", "OJ_TIMEOUT_EXIT_MS", "OJ_TIMEOUT_CONNECT_MS"), "1"
    )
    with (
        daemon_of_protocol(place, PROTOCOL - 1) as old,
        filelock.FileLock(place.folder / "restart.lock"),
    ):
        with pytest.raises(WireError, match=r"^another oj is restarting the daemon"):
            autostart.connect(place.settings(**limits))
        assert old.poll() is None


def test_stop_waits_until_the_daemon_is_gone(place: Place) -> None:
    autostart.start(place.settings()).close()
    pid = place.pid()
    assert autostart.stop(place.settings()) == autostart.Stopped(was_running=True)
    assert has_ended(pid)
    assert {"daemon.sock", "daemon.pid", "daemon.version"}.isdisjoint(
        path.name for path in place.folder.iterdir()
    )
    assert autostart.stop(place.settings()) == autostart.Stopped(was_running=False)


def test_a_daemon_that_hangs_is_killed_and_that_is_reported(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    autostart.start(place.settings()).close()
    os.kill(place.pid(), signal.SIGSTOP)
    hurried = place.settings(
        OJ_TIMEOUT_IPC_MS="50", OJ_DRAIN_TIMEOUT_MS="0", OJ_TIMEOUT_EXIT_MS="2000"
    )
    stopped = autostart.stop(hurried._replace(timeout_exit_ms=1000))
    assert stopped == autostart.Stopped(was_running=True, forced=True)
    autostart.report_forced(stopped)
    assert capsys.readouterr().err.startswith(
        "Warning: the daemon did not end in time and was killed"
    )
    assert not place.is_running()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
def test_a_daemon_that_has_lost_its_socket_is_found_by_its_record(place: Place) -> None:
    autostart.start(place.settings()).close()
    pid = place.pid()
    (place.folder / "daemon.sock").unlink()
    with pytest.raises(WireError, match=rf"pid {pid}.*there is no socket"):
        autostart.start(place.settings(OJ_TIMEOUT_CONNECT_MS="1000"))
    assert autostart.stop(place.settings()) == autostart.Stopped(was_running=True)
    assert has_ended(pid)


@pytest.mark.parametrize(
    "record",
    [
        '{"pid": PID, "start_time": "1", "boot_id": "x"}',
        '{"pid": PID}',
        '{"pid": "me"}',
        "[]",
        "12",
        "",
        "\0",
    ],
)
def test_a_record_of_another_process_is_not_believed(place: Place, record: str) -> None:
    (place.folder / "daemon.pid").write_text(record.replace("PID", str(os.getpid())))
    assert autostart.stop(place.settings()) == autostart.Stopped(was_running=False)


def test_for_a_daemon_somewhere_else_nothing_is_started(place: Place) -> None:
    with pytest.raises(WireError, match="expected tls://host:port or tcp://host:port"):
        autostart.connect(place.settings(OJ_DAEMON_URL="http://x"))
    assert [path.name for path in place.folder.iterdir()] == ["cli.log"]
