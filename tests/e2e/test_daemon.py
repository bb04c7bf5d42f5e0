"""The daemon: start, stop, who finds it, and what happens when it cannot be had."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import until
from tests.support.world import ROOT, World, alive

GATE = 'step "gate" { run = "until [ -e ${invoke.dir}/go ]; do sleep 0.05; done" }'


def foreground(world: World, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`oj daemon ARGS` in the foreground, which is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "oj_cli", "daemon", *args],
        cwd=world.project,
        env={**world.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# Not running


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("daemon", "status"), "Daemon not running"),
        (("daemon", "-v"), "Daemon not running"),
        (("daemon", "stop"), "Daemon not running"),
        (("status",), "oj daemon: not running"),
        (("project", "list"), "oj daemon: not running"),
    ],
)
def test_how_things_are_has_an_answer_without_a_daemon(
    world: World, words: tuple[str, ...], text: str
) -> None:
    """A064, A066, C12, C93."""
    assert world.oj(*words).out == f"{text}\n"
    assert world.oj(*words, "-o", "json").json == {"status": "not_running"}
    assert not (world.state / "daemon.sock").exists()


def test_a_query_without_a_daemon_fails_and_starts_none_and_leaves_a_line(world: World) -> None:
    """C11."""
    for words in (("job", "list"), ("job", "show", "x"), ("logs", "x"), ("workspace", "list")):
        refused = world.oj(*words, code=1)
        assert "Daemon not running" in refused.err
        assert refused.out == ""
    assert not (world.state / "daemon.sock").exists()
    world.oj("daemon", "start")
    world.oj("daemon", "stop")
    world.oj("job", "list", code=1)
    lines = (world.state / "cli.log").read_text().splitlines()
    assert "Daemon not running" in lines[-1]


# Start, status, stop


def test_start_status_stop(world: World) -> None:
    """A065, A066, A067, A071, C90, C91."""
    assert world.oj("daemon", "start").out == "Daemon started\n"
    shown = world.oj("daemon", "status").out
    for label in ("Status:  running", "Version: ", "Uptime: ", "Jobs:    0 active"):
        assert label in shown
    assert re.fullmatch(
        r"Daemon already running \(uptime: .*s\)\n", world.oj("daemon", "start").out
    )
    files = {"daemon.sock", "daemon.pid", "daemon.version"}
    assert files <= {path.name for path in world.state.iterdir()}
    assert (world.state.stat().st_mode & 0o777) == 0o700
    assert ((world.state / "daemon.sock").stat().st_mode & 0o777) == 0o600
    pid = world.daemon_pid
    assert world.oj("daemon", "stop").out == "Daemon stopped\n"
    assert not alive(pid)
    assert not files & {path.name for path in world.state.iterdir()}
    assert world.oj("daemon", "status").out == "Daemon not running\n"
    world.oj("daemon", "start")
    assert world.daemon_pid != pid


def test_restart_gives_another_process_and_keeps_what_was_known(world: World) -> None:
    """Spec cli 10.1."""
    world.job('step "only" { run = "true" }')
    job_id = world.run("build")["id"]
    pid = world.daemon_pid
    assert world.oj("daemon", "restart").out == "Daemon restarted\n"
    assert world.daemon_pid != pid
    assert world.status(job_id) == "completed"


def test_the_versions_of_both_programs_are_told(world: World) -> None:
    """A079, C3, C98."""
    world.oj("daemon", "start")
    version = world.oj("--version").out.split()[1]
    for word in ("-v", "-V", "--version"):
        assert world.oj("daemon", word).out == f"oj daemon {version}\n"
    assert (world.state / "daemon.version").read_text().strip() == version
    assert re.fullmatch(r"\d+\.\d+\.\d+\+\w+", version)


def test_a_wrong_option_of_the_daemon_is_a_usage_error(world: World) -> None:
    """A079, C98."""
    assert "--bogus" in foreground(world, "--bogus").stderr
    assert foreground(world, "--bogus").returncode == 2
    assert foreground(world, "bogus").returncode == 2
    assert not (world.state / "daemon.sock").exists()


def test_the_settings_are_shown_with_their_reasons(world: World) -> None:
    """Issue 2.6: settings and profile are decided in one place and printed."""
    world.oj("daemon", "start", environ={"OJ_DRAIN_TIMEOUT_MS": "1234"})
    rows = {line.split()[0]: line for line in world.oj("daemon", "status").out.splitlines() if line}
    assert rows["drain_timeout_ms"].split()[1:] == ["1234", "OJ_DRAIN_TIMEOUT_MS"]
    assert "KUBERNETES_SERVICE_HOST is not set" in rows["profile"]
    told = world.oj("daemon", "status", "-o", "json").json
    assert {"status", "version", "uptime_secs", "uptime", "jobs_active", "orphan_count"} <= set(
        told
    )
    assert world.oj("daemon", "orphans").out == "No orphaned jobs detected.\n"


def test_the_log_tells_of_start_and_readiness_also_when_the_daemon_is_down(world: World) -> None:
    """A078, C97."""
    assert "No log at" in world.oj("daemon", "logs").err
    world.oj("daemon", "start")
    world.oj("daemon", "stop")
    lines = world.oj("daemon", "logs").out.splitlines()
    assert lines[0].startswith("--- oj daemon start")
    assert any(line.endswith("READY") for line in lines)
    assert world.oj("daemon", "logs", "-n", "2").out.splitlines() == lines[-2:]
    with (world.state / "daemon.log").open("a") as log:
        log.writelines(f"line {number}\n" for number in range(300))
    assert len(world.oj("daemon", "logs").out.splitlines()) == 200
    assert len(world.oj("daemon", "logs", "--no-limit").out.splitlines()) == len(lines) + 300


def test_the_daemon_is_free_of_the_terminal_and_folder_that_started_it(world: World) -> None:
    """Y13."""
    here = world.project / "sub"
    here.mkdir()
    world.oj("daemon", "start", cwd=here)
    pid = world.daemon_pid
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/cwd").resolve() in (Path("/"), ROOT)
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")


# Two of them


def test_a_second_daemon_is_refused_with_pid_and_version_and_harms_nothing(world: World) -> None:
    """A070, C92, Y13."""
    world.oj("daemon", "start")
    before = {
        name: (world.state / name).read_bytes()
        for name in ("daemon.pid", "daemon.version", "daemon.log")
    }
    refused = foreground(world)
    assert refused.returncode == 1
    assert str(world.daemon_pid) in refused.stderr
    assert before["daemon.version"].decode().strip() in refused.stderr
    assert before == {name: (world.state / name).read_bytes() for name in before}
    world.oj("job", "list")


def test_two_actions_at_once_end_with_one_daemon_and_both_succeed(world: World) -> None:
    """C14."""
    world.job('step "only" { run = "true" }')
    children = [world.spawn("run", "--detach", "-o", "json", "build") for _ in range(3)]
    outputs = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], outputs
    ids = {json.loads(out)["job_id"] for out, _ in outputs}
    assert {job["id"] for job in world.oj("job", "list", "-o", "json").json} == ids
    starts = (world.state / "daemon.log").read_text().count("--- oj daemon start")
    assert starts == 1


# Found dead


def test_an_action_starts_the_daemon_and_finds_a_dead_one_out(world: World) -> None:
    """C13 for jobs, C16."""
    world.job('step "only" { run = "true" }')
    job_id = world.run("build")["id"]
    world.kill_daemon()
    assert (world.state / "daemon.sock").exists()
    assert "Daemon not running" in world.oj("job", "list", code=1).err
    assert world.oj("daemon", "status").out == "Daemon not running\n"
    assert world.oj("status").out == "oj daemon: not running\n"
    again = world.run("build")["id"]
    assert {job["id"] for job in world.oj("job", "list", "-o", "json").json} == {job_id, again}


def test_a_pid_that_belongs_to_somebody_else_by_now_is_not_harmed(world: World) -> None:
    """C16: numbers are used again."""
    world.oj("daemon", "start")
    record = json.loads((world.state / "daemon.pid").read_text())
    world.kill_daemon()
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        (world.state / "daemon.pid").write_text(json.dumps({**record, "pid": bystander.pid}))
        assert world.oj("daemon", "stop").out == "Daemon not running\n"
        world.oj("daemon", "start")
        world.oj("daemon", "stop")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_daemon_whose_socket_was_removed_is_named_and_can_be_restarted(world: World) -> None:
    """C16: not a mere timeout."""
    world.job('step "only" { run = "true" }')
    job_id = world.run("build")["id"]
    (world.state / "daemon.sock").unlink()
    refused = world.oj("run", "build", code=1, environ={"OJ_TIMEOUT_CONNECT_MS": "500"})
    assert str(world.daemon_pid) in refused.err
    assert "removed the socket" in refused.err
    assert "oj daemon restart" in refused.err
    world.oj("daemon", "restart")
    assert world.status(job_id) == "completed"


# Cannot start


def test_the_reason_of_a_failed_start_is_told_by_the_action_that_wanted_it(world: World) -> None:
    """A068 for the daemon, C17."""
    world.job('step "only" { run = "true" }')
    world.finish(world.start("build"))
    world.kill_daemon()
    log = next((world.state / "wal").glob("*.jsonl"))
    log.write_bytes(b"garbage" + log.read_bytes())
    for words in (("run", "--detach", "build"), ("daemon", "start")):
        refused = world.oj(*words, code=1)
        assert "Failed to start daemon" in refused.err, refused
        assert str(log) in refused.err, refused
        assert "Traceback" not in refused.err


def test_a_state_folder_with_too_long_a_path_for_a_socket_is_told_as_such(world: World) -> None:
    """A069, C18."""
    environ = {"OJ_STATE_DIR": str(world.folder / ("x" * 120))}
    world.job('step "only" { run = "true" }')
    for words in (("daemon", "start"), ("run", "build")):
        refused = world.oj(*words, code=1, environ=environ)
        assert "too long" in refused.err
        assert "107" in refused.err


@pytest.mark.parametrize("url", ["http://x", "nonsense", "tcp://", "unix:relative"])
def test_a_url_of_another_form_is_refused_with_the_forms_there_are(world: World, url: str) -> None:
    """C20."""
    world.job('step "only" { run = "true" }')
    refused = world.oj("run", "build", code=1, environ={"OJ_DAEMON_URL": url})
    assert "OJ_DAEMON_URL" in refused.err
    assert "tcp://" in refused.err
    assert not (world.state / "daemon.sock").exists()


def test_a_daemon_of_another_protocol_is_replaced_by_the_newer_side_only(world: World) -> None:
    """C15 as fixed by 8.38."""
    older = world.folder / "older"
    for name in ("oj_cli", "oj_daemon"):
        shutil.copytree(ROOT / name, older / name, ignore=shutil.ignore_patterns("__pycache__"))
    names = older / "oj_daemon" / "wire" / "names.py"
    text, count = re.subn(
        r"(?m)^(PROTOCOL\b.*?= )(\d+)",
        lambda found: f"{found[1]}{int(found[2]) - 1}",
        names.read_text(),
    )
    assert count == 1
    names.write_text(text)
    old = {"PYTHONPATH": str(older)}
    world.job('step "only" { run = "true" }')
    world.oj("daemon", "start", environ=old)
    pid = world.daemon_pid
    refused = world.oj("job", "list", code=1)
    assert "protocol" in refused.err
    assert world.daemon_pid == pid, "a query replaces nothing"
    started = world.oj("run", "--detach", "build")
    assert started.err.count("restarting the daemon") == 1
    assert world.daemon_pid != pid
    pid = world.daemon_pid
    refused = world.oj("run", "--detach", "build", code=1, environ=old)
    assert "older" in refused.err
    assert world.daemon_pid == pid, "an older program takes nothing over"


# Bad visitors


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 2**31) + b"x",
        struct.pack(">I", 5) + b"\xff\xfe{}x",
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 16) + b'{"type":"Nope"} ',
        struct.pack(">I", 100) + b"{",
        b"",
    ],
)
def test_garbage_on_one_connection_harms_no_other(shop: World, data: bytes) -> None:
    """C24."""
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(30)
        visitor.connect(str(shop.state / "daemon.sock"))
        visitor.sendall(data)
        visitor.shutdown(socket.SHUT_WR)
        shop.oj("job", "list")
        while visitor.recv(4096):
            pass


# Ending


def test_a_step_outlives_stop_and_the_next_daemon_sees_its_end(world: World) -> None:
    """A073 and C93 for shell steps, D5."""
    world.job(GATE)
    job_id = world.start("build")
    world.until_running(job_id, "gate")
    world.oj("daemon", "stop")
    assert world.survivors()
    (world.project / "go").touch()
    until(lambda: not world.survivors(), 60, "the step has ended")
    world.oj("daemon", "start")
    job = world.finish(job_id)
    assert (job["status"], len(job["steps"])) == ("completed", 1)


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_stop_with_kill_ends_what_runs(world: World, verb: str) -> None:
    """A072 and C93 for shell steps."""
    world.job('step "gate" { run = "sleep 300" }')
    job_id = world.start("build")
    world.until_running(job_id, "gate")
    assert world.survivors()
    world.oj("daemon", verb, "--kill")
    assert not world.survivors()
    world.oj("daemon", "start")
    world.until_status(job_id, "failed", "cancelled", "suspended")


def test_a_stop_lets_the_drain_finish(world: World) -> None:
    """C94, Y9: a step whose shell ignores TERM for a while is being ended when the stop comes."""
    world.job("""
        step "deaf" { run = "trap '' TERM; touch ${invoke.dir}/up; until [ -e ${invoke.dir}/go ]; do sleep 0.05; done" }
    """)
    job_id = world.start("build")
    until((world.project / "up").exists, 60, "the step is up")
    world.oj("cancel", job_id)
    stopping = world.spawn("daemon", "stop")
    (world.project / "go").touch()
    out, err = stopping.communicate(timeout=60)
    assert (stopping.returncode, out, err) == (0, "Daemon stopped\n", "")
    world.oj("daemon", "start")
    world.until_status(job_id, "cancelled")


def test_a_draining_daemon_refuses_new_work_and_a_second_signal_ends_it_at_once(
    world: World,
) -> None:
    """C94; system.md, roadmap 17: nothing is lost either way. A hook of git holds up what is in flight."""
    world.git_project()
    hook = world.project / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f"#!/bin/sh\ntouch {world.project}/up\nuntil [ -e {world.project}/go ]; do sleep 0.05; done\n"
    )
    hook.chmod(0o755)
    world.job('source { git = true }\nstep "work" { run = "cat README" }')
    world.oj("daemon", "start", environ={"OJ_DRAIN_TIMEOUT_MS": "300000"})
    job_id = world.start("build")
    until((world.project / "up").exists, 60, "git is at work")
    pid = world.daemon_pid
    world.signal_daemon(signal.SIGTERM)
    until(lambda: world.oj("daemon", "status").out.startswith("Status:  draining"), 30, "it drains")
    assert "draining" in world.oj("run", "--detach", "build", code=1).err
    assert world.daemon_pid == pid
    world.signal_daemon(signal.SIGTERM)
    until(lambda: not alive(pid), 30, "the daemon has ended")
    (world.project / "go").touch()
    world.oj("daemon", "start")
    assert world.finish(job_id)["status"] == "completed"


def test_a_daemon_that_hangs_is_killed_and_that_is_said(world: World) -> None:
    """C94, Y9."""
    environ = {
        "OJ_DRAIN_TIMEOUT_MS": "100",
        "OJ_TIMEOUT_EXIT_MS": "300",
        "OJ_TIMEOUT_IPC_MS": "500",
    }
    world.oj("daemon", "start", environ=environ)
    pid = world.daemon_pid
    world.signal_daemon(signal.SIGSTOP)
    stopped = world.oj("daemon", "stop", environ=environ)
    assert stopped.out == "Daemon stopped\n"
    assert "was killed" in stopped.err
    assert not alive(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_in_the_foreground_says_ready_and_ends_by_signal(
    world: World, number: signal.Signals
) -> None:
    """Spec cli 10.2; `oj daemon` without a verb runs it here."""
    child = world.spawn("daemon")
    assert child.stdout is not None
    assert next(line for line in child.stdout if line.strip()) == "READY\n"
    world.oj("job", "list")
    assert world.daemon_pid == child.pid
    child.send_signal(number)
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert not (world.state / "daemon.sock").exists()


def test_a_daemon_of_a_cluster_says_nothing_but_its_log_one_object_a_line(world: World) -> None:
    """Issue 4.1: also not what `oj` itself would have warned of."""
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "OJ_HTTP_PORT": "off", "OJ_LEASE": "off"}
    child = world.spawn("daemon", environ=environ)
    world.until_file(world.state / "daemon.pid")
    until(
        lambda: world.oj("job", "list", code=None, environ=environ).code == 0, 60, "it answers", 0.2
    )
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=60)
    messages = [json.loads(line)["message"] for line in out.splitlines()]
    assert (messages.count("READY"), messages[-1]) == (1, "ended")
    assert any("no token is configured" in message for message in messages)
    assert (child.returncode, err) == (0, "")


def test_output_without_pause_does_not_hold_up_timers(shop: World) -> None:
    """A080 for shell steps."""
    shop.job("""
        step "split" {
          run     = "true"
          on_done = ["loud", "late"]
        }
        step "loud" { run = "while :; do echo noise noise noise; done" }
        step "late" {
          run     = "sleep 300"
          timeout = "500ms"
        }
    """)
    job = shop.run("build", code=1)
    assert "'late'" in job["error"]
    assert "timed out" in job["error"] or "timeout" in job["error"]
    shop.oj("job", "list")
