"""Tests of oj_cli/commands/daemon.py: the real daemon in a state folder of its own, and scripted ones for odd moments."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from oj_cli import autostart
from oj_daemon import settings
from oj_daemon.build import identity
from oj_daemon.wire.names import PROTOCOL
from tests.support.harness import Harness
from tests.support.replies import reply


@pytest.fixture
def oj(cli: Harness) -> Iterator[Harness]:
    """`oj` with a state folder that is short enough for a socket; the daemon in it is ended."""
    folder = Path(tempfile.mkdtemp(prefix="oj-", dir="/tmp"))
    cli.setenv("OJ_STATE_DIR", str(folder))
    cli.setenv("OJ_TIMEOUT_CONNECT_MS", "30000")
    cli.state = folder
    yield cli
    autostart.stop(settings.load({"OJ_STATE_DIR": str(folder)}))
    shutil.rmtree(folder)


def test_without_a_daemon_every_question_has_an_answer(oj: Harness) -> None:
    for words in (["status"], ["stop"], ["-v"]):
        assert oj.oj("daemon", *words) == (0, "Daemon not running\n", "")
        assert oj.oj("daemon", *words, "-o", "json").json == {"status": "not_running"}
    assert oj.oj("daemon", "orphans") == (0, "No orphaned jobs detected.\n", "")
    assert oj.oj("daemon", "orphans", "-o", "json").json == []
    assert oj.oj("daemon", "logs") == (0, "", f"No log at {oj.state}/daemon.log\n")
    assert oj.oj("daemon", "logs", "-o", "json").json == {
        "log_path": f"{oj.state}/daemon.log",
        "lines": [],
    }
    assert list(oj.state.iterdir()) == []


def test_the_life_of_a_daemon(oj: Harness) -> None:
    assert oj.oj("daemon", "start") == (0, "Daemon started\n", "")
    again = oj.oj("daemon", "start")
    assert again.code == 0
    assert again.out.startswith("Daemon already running (uptime: ")
    assert oj.oj("daemon", "-v").out == f"oj daemon {identity()}\n"
    shown = oj.oj("daemon", "status")
    assert shown.out.splitlines()[:2] == ["Status:  running", f"Version: {identity()}"]
    assert "Jobs:    0 active\n" in shown.out
    assert any(
        line.split() == ["file_lock", "yes", "profile", "workstation"]
        for line in shown.out.splitlines()
    )
    first = oj.oj("daemon", "status", "-o", "json").json
    assert (first["status"], first["jobs_active"], first["orphan_count"]) == ("running", 0, 0)
    assert "type" not in first
    assert oj.oj("daemon", "restart") == (0, "Daemon restarted\n", "")
    assert oj.oj("daemon", "status", "-o", "json").json["pid"] != first["pid"]
    assert oj.oj("daemon", "stop") == (0, "Daemon stopped\n", "")
    assert oj.oj("daemon", "stop") == (0, "Daemon not running\n", "")


def test_the_same_for_programs(oj: Harness) -> None:
    started = oj.oj("daemon", "start", "-o", "json").json
    assert started["status"] == "started"
    assert started.keys() == {"status", "version", "pid", "uptime_secs", "uptime"}
    assert oj.oj("daemon", "start", "-o", "json").json["status"] == "already_running"
    restarted = oj.oj("daemon", "restart", "--kill", "-o", "json").json
    assert restarted["status"] == "restarted"
    assert restarted["pid"] != started["pid"]
    assert oj.oj("daemon", "stop", "--kill", "-o", "json").json == {
        "status": "stopped",
        "forced": False,
    }


def test_a_start_that_fails_says_why(oj: Harness) -> None:
    oj.setenv("OJ_LEASE", "on")
    result = oj.oj("daemon", "start", "-o", "json")
    assert result.code == 1
    hint = "set OJ_K8S_KUBECONFIG to a file with credentials"
    message = (
        "Failed to start daemon: OJ_LEASE=on: find the API server: "
        "KUBERNETES_SERVICE_HOST is not set, so this is no pod"
    )
    assert result.json == {"error": {"message": message, "code": "start_failed", "hint": hint}}
    assert result.err == f"Error: {message}\nHint: {hint}\n"


def test_warnings_about_settings_are_shown_with_the_status(oj: Harness) -> None:
    oj.setenv("OJ_LOG", "loud")
    warning = "Warning: OJ_LOG='loud' is ignored: expected debug or info or warning or error; using info\n"
    assert warning in oj.oj("daemon", "start").err
    assert warning in oj.oj("daemon", "status").err


def test_notifications_that_wait_are_shown_with_the_status(daemon_cli: Harness) -> None:
    for count, expected in ((0, False), (3, True)):
        shown = reply(
            "DaemonInfo",
            status="running", version="1", protocol=PROTOCOL, pid=4711, uptime_secs=5, uptime="5s", jobs_active=0,
            orphan_count=0, state_dir="/s", profile="workstation", epoch=1, seq=1, notifications_waiting=count,
            warnings=["3 wait; last failure: HTTP 500"] * expected,
        )  # fmt: skip
        daemon_cli.daemon.answer("DaemonStatus", shown)
        result = daemon_cli.oj("daemon", "status")
        assert ("Notifications: 3 waiting\n" in result.out) is expected
        assert ("Warning: 3 wait; last failure: HTTP 500\n" in result.err) is expected


@pytest.mark.parametrize("words", [["daemon"], ["daemon", "start", "--foreground"]])
def test_in_the_foreground_the_very_process_becomes_the_daemon(
    oj: Harness, words: list[str]
) -> None:
    child = oj.spawn(*words)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "READY\n"
        assert oj.oj("daemon", "status", "-o", "json").json["pid"] == child.pid
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    finally:
        child.kill()
        out, err = child.communicate()
    assert (out, err) == ("", "")


@pytest.mark.parametrize("words", [["daemon"], ["daemon", "start", "--foreground"]])
def test_in_the_foreground_no_daemon_is_started_beside_the_one_that_is_elsewhere(
    cli: Harness, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("OJ_DAEMON_URL", "tls://far.example:7777")
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("became a daemon"))
    result = cli.oj(*words)
    assert result.code == 1
    assert "cannot start tls://far.example:7777" in result.err


def test_a_second_one_in_the_foreground_says_which_one_runs(oj: Harness) -> None:
    oj.oj("daemon", "start")
    pid = oj.oj("daemon", "status", "-o", "json").json["pid"]
    child = oj.spawn("daemon")
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (1, "")
    assert err.startswith(f"Error: a daemon is already running (pid {pid}, version ")
    assert oj.oj("daemon", "status", "-o", "json").json["pid"] == pid


def test_status_of_a_daemon_that_does_not_answer_is_an_error(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("DaemonStatus", {"type": "HANG_UP"})
    daemon_cli.daemon.refuse("DaemonStatus", "broken inside", code="internal")
    assert daemon_cli.oj("daemon", "status") == (1, "", "Error: broken inside\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "".join(f"line {n}\n" for n in range(100, 300))),
        (["-n", "2"], "line 298\nline 299\n"),
        (["-n", "1000"], "".join(f"line {n}\n" for n in range(300))),
        (["--no-limit"], "".join(f"line {n}\n" for n in range(300))),
    ],
)
def test_logs_are_read_from_the_file_as_many_lines_as_wanted(
    oj: Harness, words: list[str], expected: str
) -> None:
    (oj.state / "daemon.log").write_text("".join(f"line {n}\n" for n in range(300)))
    assert oj.oj("daemon", "logs", *words) == (0, expected, "")
    found = oj.oj("daemon", "logs", *words, "-o", "json").json
    assert found == {"log_path": f"{oj.state}/daemon.log", "lines": expected.splitlines()}


def test_only_a_newline_ends_a_line_of_the_log(oj: Harness) -> None:
    (oj.state / "daemon.log").write_text("a\u2028b\x0bc\nd\n")
    assert oj.oj("daemon", "logs", "-o", "json").json["lines"] == ["a\u2028b\x0bc", "d"]


def test_the_last_lines_of_a_log_of_long_lines_are_whole(oj: Harness) -> None:
    long = [letter * 100_000 for letter in "abc"]
    (oj.state / "daemon.log").write_text("\n".join(long))
    assert oj.oj("daemon", "logs", "-n", "2").out == f"{long[1]}\n{long[2]}\n"


def test_following_a_log_loses_nothing_when_it_is_rotated_or_cut_short(oj: Harness) -> None:
    oj.setenv("OJ_LOG_POLL_MS", "5")
    path = oj.state / "daemon.log"
    path.write_text("0 old\n1 last\n")
    child = oj.spawn("daemon", "logs", "-f", "-n", "1")
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "1 last\n"
        with path.open("a") as file:
            file.write("2 ad")
            file.flush()
            file.write("ded\n")
        assert child.stdout.readline() == "2 added\n"
        with path.open("a") as file:
            file.write("3 before it was moved\n")
            path.rename(oj.state / "daemon.log.1")
            path.write_text("4 new file\n")
        assert child.stdout.readline() == "3 before it was moved\n"
        assert child.stdout.readline() == "4 new file\n"
        path.write_text("5\n")
        assert child.stdout.readline() == "5\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0
    finally:
        child.kill()
        out, err = child.communicate()
    assert (out, err) == ("", "")


def test_following_begins_with_a_log_that_is_not_there_yet(oj: Harness) -> None:
    oj.setenv("OJ_LOG_POLL_MS", "5")
    child = oj.spawn("daemon", "logs", "-f")
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        assert child.stderr.readline() == f"No log at {oj.state}/daemon.log\n"
        (oj.state / "daemon.log").write_text("hello\n")
        assert child.stdout.readline() == "hello\n"
    finally:
        child.kill()
        child.communicate()


def test_there_is_no_orphan_to_dismiss(oj: Harness) -> None:
    result = oj.oj("daemon", "orphans", "--dismiss", "job-1")
    assert result.code == 2
    assert "there is no orphaned job 'job-1'" in result.err


def test_an_unknown_verb_is_a_usage_error(oj: Harness) -> None:
    assert oj.oj("daemon", "dance").code == 2
    assert list(oj.state.iterdir()) == []
