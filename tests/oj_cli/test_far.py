"""`oj` for a daemon on another machine: what travels, and what is not looked for here. The way there is wire/remote.py's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from oj_daemon.settings import Settings
from oj_daemon.wire import client
from tests.support.harness import Harness
from tests.support.replies import WORKSPACE, changes, detail, reply, workspace

URL = "tls://far.example:7777"
BOOK = """
command "build" { run = { job = "build" } }
job "build" {
  step "s" { run = "true" }
}
command "here" { run = "echo here" }
"""


@pytest.fixture
def far(cli: Harness, monkeypatch: pytest.MonkeyPatch) -> Harness:
    """The fake daemon behind a URL; a folder of state that nobody may look at."""
    cli.daemon.start()
    connect = client._connect

    def near(settings: Settings) -> object:
        return connect(settings._replace(daemon_url=None))

    monkeypatch.setattr(client, "_connect", near)
    cli.setenv("OJ_DAEMON_URL", URL)
    (cli.work / ".oj" / "runbooks").mkdir()
    (cli.work / ".oj" / "runbooks" / "main.hcl").write_text(BOOK)
    started = {"job_id": "job-4f9h2k7m1n3p5q8r", "name": "x", "kind": "build", "status": "pending"}
    cli.daemon.answer("RunCommand", reply("JobStarted", **started))
    return cli


def git(folder: Path, *words: str) -> str:
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    for who in ("AUTHOR", "COMMITTER"):
        environ |= {f"GIT_{who}_NAME": "Test", f"GIT_{who}_EMAIL": "test@example.org"}
    return subprocess.run(
        ["git", "-C", folder, *words], env=environ, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_run_tells_that_it_is_far_and_what_there_is_to_clone(far: Harness) -> None:
    git(far.work, "init", "-q", "-b", "trunk")
    git(far.work, "remote", "add", "origin", "https://ann:secret@example.org/shop.git")
    git(far.work, "commit", "-q", "--allow-empty", "-m", "first")
    assert far.oj("run", "-d", "build").code == 0
    (asked,) = far.daemon.of("RunCommand")
    assert asked["is_remote"] is True
    assert asked["repo"] == {
        "root": str(far.work),
        "url": "https://example.org/shop.git",
        "branch": "trunk",
        "head": git(far.work, "rev-parse", "HEAD"),
    }


def test_a_folder_that_is_no_repository_can_be_run_from_without_git(far: Harness) -> None:
    far.setenv("PATH", "/nowhere")
    assert far.oj("run", "-d", "build").code == 0
    (asked,) = far.daemon.of("RunCommand")
    assert (asked["is_remote"], asked["repo"]) == (True, None)


def test_the_daemon_of_this_machine_is_told_nothing_of_it(
    far: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OJ_DAEMON_URL")
    assert far.oj("run", "-d", "build").code == 0
    (asked,) = far.daemon.of("RunCommand")
    assert "is_remote" not in asked


def test_a_daemon_of_this_machine_whose_jobs_are_pods_is_told_of_the_repository(
    far: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OJ_DAEMON_URL")
    far.setenv("OJ_RUNTIME", "kubernetes")
    git(far.work, "init", "-q", "-b", "trunk")
    git(far.work, "remote", "add", "origin", "https://example.org/shop.git")
    assert far.oj("run", "-d", "build").code == 0
    (asked,) = far.daemon.of("RunCommand")
    assert asked["repo"]["url"] == "https://example.org/shop.git"
    assert "is_remote" not in asked


def test_shell_text_runs_right_here_and_asks_no_daemon(
    far: Harness, capfd: pytest.CaptureFixture[str]
) -> None:
    assert far.oj("run", "here").code == 0
    assert capfd.readouterr().out == "here\n"
    assert far.daemon.requests == []


def test_of_the_log_of_a_far_daemon_what_that_keeps_in_memory_is_shown(far: Harness) -> None:
    kept = reply("Log", log_path="", content="one\ntwo\n", offset=2)
    far.daemon.answer("DaemonLogs", kept)
    assert far.oj("daemon", "logs", "-n", "7") == (0, "one\ntwo\n", "")
    assert far.oj("daemon", "logs", "-o", "json").json == {"log_path": "", "lines": ["one", "two"]}
    assert far.daemon.of("DaemonLogs") == [{"lines": 7}, {"lines": 200}]
    assert not (far.state / "daemon.log").exists()


@pytest.mark.parametrize("words", [["status"], ["daemon", "status"], ["daemon", "-v"]])
def test_a_far_daemon_that_cannot_be_reached_is_an_error_and_not_an_answer(
    far: Harness, words: list[str]
) -> None:
    far.daemon.close()
    assert far.oj(*words).code == 1


def test_paths_are_said_to_be_on_the_daemons_machine(far: Harness) -> None:
    far.daemon.answer("WorkspaceShow", workspace(kind="clone"))
    far.daemon.answer("JobShow", detail())
    assert f"{WORKSPACE} (on the daemon's machine)" in far.oj("workspace", "show", "8a7").out
    assert ".log (on the daemon's machine)" in far.oj("job", "show", "4f9").out
    far.daemon.answer("JobShow", detail(workspace=workspace(kind="clone")))
    assert f"{WORKSPACE} (on the daemon's machine)" in far.oj("job", "show", "4f9").out


def test_doctor_looks_at_nothing_that_is_on_the_other_machine(far: Harness) -> None:
    far.daemon.close()
    found = {
        check["name"]: check["status"] for check in far.oj("doctor", "-o", "json").json["checks"]
    }
    assert found["daemon"] == "fail"
    assert not {"state folder", "disk space", "socket path", "step processes"} & set(found)


def test_run_tells_at_the_end_that_work_was_not_pushed(far: Harness) -> None:
    text = "2026-01-01T00:00:00Z [job] job completed\n"
    log = {"content": text, "offset": len(text), "restarted": False}
    ended = detail(status="completed", finished_at_ms=1)
    far.daemon.answer("Watch", changes(ended, logs={ended["id"]: log}))
    kept = workspace(status="kept", reason="branch ws-8a7b has commits that were not pushed")
    going = workspace(status="deleting")
    for words in (["run", "build"], ["run", "--wait", "build"]):
        far.daemon.answer("JobShow", detail(workspace=going), detail(workspace=kept))
        done = far.oj(*words)
        assert done.code == 0
        assert "Warning: the clone is kept: branch ws-8a7b has commits" in done.err
        assert "oj workspace drop 8a7b6c5d" in done.out
