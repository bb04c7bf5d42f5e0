from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oj_cli.commands import doctor
from oj_daemon.build import identity
from oj_daemon.wire.names import PROTOCOL
from tests.support.harness import Harness
from tests.support.replies import JOB, detail, reply


def checks(cli: Harness) -> dict[str, dict[str, Any]]:
    """Findings by name; of several of one name the last."""
    return {each["name"]: each for each in cli.oj("doctor", "-o", "json").json["checks"]}


def info(**fields: object) -> dict[str, Any]:
    named: dict[str, Any] = {
        "status": "running", "version": identity(), "protocol": PROTOCOL, "pid": 4711, "uptime_secs": 5, "uptime": "5s",
        "jobs_active": 0, "orphan_count": 0, "state_dir": "/s", "profile": "workstation", "epoch": 1, "seq": 1,
    }  # fmt: skip
    return reply("DaemonInfo", **{**named, **fields})


def test_a_healthy_machine_passes(cli: Harness) -> None:
    cli.state.chmod(0o700)
    (cli.work / ".oj" / "runbooks").mkdir()
    (cli.work / ".oj" / "runbooks" / "a.hcl").write_text('command "x" { run = "true" }')
    result = cli.oj("doctor")
    assert result.code == 0, result.out
    for name in (
        "python",
        "bash",
        "git",
        "state folder",
        "disk space",
        "socket path",
        "daemon",
        "project",
        "clock",
    ):
        assert f"  {name} " in result.out
    assert "fail" not in result.out
    assert not (cli.state / "daemon.sock").exists()


def test_a_missing_bash_fails_and_a_missing_git_warns(cli: Harness, tmp_path: Path) -> None:
    cli.setenv("PATH", str(tmp_path / "nowhere"))
    result = cli.oj("doctor", "-o", "json")
    assert result.code == 1
    assert result.json["ok"] is False
    found = {each["name"]: each for each in result.json["checks"]}
    assert (found["bash"]["status"], found["git"]["status"]) == ("fail", "warn")
    assert found["bash"]["fix"].startswith("install bash")


def program(cli: Harness, folder: Path, name: str, text: str) -> None:
    """Put a program of that name first on PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    cli.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_what_the_drivers_of_agents_cannot_do_is_said(cli: Harness) -> None:
    found = checks(cli)["agent generic"]
    assert found["status"] == "ok"
    assert "cannot report its state by hooks" in found["detail"]
    assert "resume a conversation (on_dead resume)" in found["detail"]


def test_an_agent_program_is_missed_only_where_a_runbook_runs_it(
    cli: Harness, tmp_path: Path
) -> None:
    bins = tmp_path / "bin"
    bins.mkdir()
    for name in ("bash", "git"):
        path = shutil.which(name)
        assert path
        (bins / name).symlink_to(path)
    cli.setenv("PATH", str(bins))
    assert checks(cli)["agent claude"]["status"] == "ok"
    (cli.work / ".oj" / "runbooks").mkdir()
    book = 'agent "a" { run = "claude" }\ncommand "x" { run = { agent = "a" } }'
    (cli.work / ".oj" / "runbooks" / "a.hcl").write_text(book)
    missed = checks(cli)["agent claude"]
    assert (missed["status"], missed["fix"]) == (
        "warn",
        "install claude: agents of this project run it",
    )
    program(cli, bins, "claude", "echo 2.1.3")
    assert checks(cli)["agent claude"]["detail"] == f"2.1.3 ({bins / 'claude'})"


def test_a_folder_that_others_can_read_is_warned_about(cli: Harness) -> None:
    cli.state.chmod(0o755)
    assert checks(cli)["state folder"] == {
        "name": "state folder",
        "status": "warn",
        "detail": f"{cli.state} is open to other users (mode 755)",
        "fix": f"chmod 700 {cli.state}",
    }


def test_a_state_path_that_is_too_long_for_a_socket_fails(cli: Harness, tmp_path: Path) -> None:
    cli.setenv("OJ_STATE_DIR", str(tmp_path / ("long" * 40)))
    assert checks(cli)["socket path"]["status"] == "fail"


def test_a_setting_that_was_not_understood_is_shown(cli: Harness) -> None:
    cli.setenv("OJ_TIMEOUT_IPC_MS", "soon")
    found = checks(cli)["settings"]
    assert found["status"] == "warn"
    assert "OJ_TIMEOUT_IPC_MS" in found["detail"]


def test_a_daemon_of_this_build_is_fine_and_its_warnings_are_shown(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("DaemonStatus", info())
    found = checks(daemon_cli)["daemon"]
    assert (found["status"], found["detail"]) == ("ok", f"pid 4711, up 5s, version {identity()}")
    daemon_cli.daemon.answer("DaemonStatus", info(warnings=["the disk is slow"]))
    found = checks(daemon_cli)["daemon"]
    assert (found["status"], found["detail"]) == ("warn", "the disk is slow")


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"version": "0.0.1"}, "warn"), ({"protocol": 99}, "fail"), ({"status": "draining"}, "warn")],
)
def test_a_daemon_of_another_build_is_told(
    daemon_cli: Harness, fields: dict[str, Any], status: str
) -> None:
    daemon_cli.daemon.answer("DaemonStatus", info(**fields))
    assert checks(daemon_cli)["daemon"]["status"] == status


def test_how_people_are_told_is_said_without_telling_them(cli: Harness) -> None:
    found = checks(cli)
    assert found["webhook"]["detail"].startswith("none; OJ_NOTIFY_WEBHOOK_URL")
    assert found["desktop"]["detail"] == "on, but this session has no D-Bus: nothing appears"
    cli.setenv("OJ_NOTIFY_WEBHOOK_URL", "https://chat.example.com/S3CRET")
    cli.setenv("OJ_NOTIFY_WEBHOOK_SECRET", "S3CRET")
    cli.setenv("OJ_NOTIFY_SEVERITY", "warning")
    cli.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    found = checks(cli)
    assert (
        found["webhook"]["detail"]
        == "a daemon that starts now posts what is at least warning, signed"
    )
    assert found["desktop"]["detail"].startswith("a daemon that starts now shows ")
    cli.setenv("OJ_NOTIFY_DESKTOP", "0")
    result = cli.oj("doctor", "-o", "json")
    assert "OJ_NOTIFY_DESKTOP=1 turns it on" in result.out
    assert "S3CRET" not in result.out


def test_how_people_are_told_is_what_the_daemon_that_runs_was_started_with(
    daemon_cli: Harness,
) -> None:
    chosen = [("webhook", "***"), ("webhook_secret", "none"), ("notify_desktop", "no")]
    settings = [{"name": name, "value": value, "reason": "r"} for name, value in chosen]
    daemon_cli.daemon.answer("DaemonStatus", info(settings=settings))
    found = checks(daemon_cli)
    assert found["webhook"]["detail"] == "the daemon posts what is at least info, unsigned"
    assert found["desktop"]["detail"].startswith("off")


@pytest.mark.skipif(
    not Path("/proc/locks").exists(), reason="the system does not tell who holds a lock"
)
def test_a_process_that_holds_the_lock_but_does_not_answer_is_named(cli: Harness) -> None:
    with (cli.state / "daemon.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = checks(cli)["daemon"]
    assert found["status"] == "fail"
    assert f"process {os.getpid()} holds the lock" in found["detail"]
    assert checks(cli)["daemon"]["status"] == "ok"


def test_processes_of_an_ended_job_are_found_with_how_to_end_them(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("DaemonStatus", info())
    environ = {**daemon_cli.environ, "OJ_STEP": f"abc:{JOB}:1"}
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], env=environ, stdin=subprocess.PIPE
    ) as process:
        daemon_cli.daemon.answer("JobShow", detail())
        assert checks(daemon_cli)["step processes"]["status"] == "ok"
        daemon_cli.daemon.answer("JobShow", detail(status="completed"))
        found = checks(daemon_cli)["step processes"]
        process.communicate(b"\n")
    assert found["status"] == "warn"
    assert JOB in found["detail"]
    assert found["fix"] == f"kill {process.pid}"


def test_broken_runbooks_fail_and_a_project_without_any_is_told_of_init(cli: Harness) -> None:
    assert checks(cli)["runbooks"]["fix"] == "oj init"
    (cli.work / ".oj" / "runbooks").mkdir()
    (cli.work / ".oj" / "runbooks" / "a.hcl").write_text("command {")
    found = checks(cli)["runbooks"]
    assert (found["status"], found["fix"]) == ("fail", "oj runbook check")


def test_the_file_system_of_a_folder_is_named() -> None:
    if Path("/proc/self/mountinfo").exists():
        assert doctor.file_system(Path("/proc")) == "proc"


def test_a_clock_that_went_back_is_noticed(cli: Harness) -> None:
    late = cli.state / "daemon.log"
    late.touch()
    os.utime(late, (4_000_000_000, 4_000_000_000))
    assert checks(cli)["clock"]["status"] == "warn"
