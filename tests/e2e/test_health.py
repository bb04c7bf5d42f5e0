"""The HTTP port of a real daemon: probes, and figures that a job, an agent and a restart leave."""

from __future__ import annotations

import json
import re
import signal
import socket

import pytest

from tests.support.agents import agents, equip, runbook, scenario, turn
from tests.support.probes import ask, figure, free_port, scrape, unmet
from tests.support.waiting import until
from tests.support.world import World, alive

pytestmark = pytest.mark.e2e

TOKEN = "never-to-be-seen-4711"


@pytest.fixture
def port(world: World) -> int:
    """Where the daemon of this world answers, once it runs."""
    found = free_port()
    world.environ["OJ_HTTP_PORT"] = str(found)
    return found


def test_a_job_leaves_its_figures_and_no_trace_of_who_it_was(world: World, port: int) -> None:
    world.environ["OJ_AUTH_TOKEN"] = TOKEN
    world.job("""
        step "good" {
          run     = "echo ${invoke.dir}"
          on_done = ["bad"]
        }
        step "bad" { run = "exit 3" }
    """)
    ended = world.run("build", code=1)
    assert ask(port, "/healthz") == (200, '{"status": "ok"}\n')
    assert unmet(port) == {}
    assert figure(port, "oj_jobs", state="failed") == 1
    assert figure(port, "oj_jobs", state="running") == 0
    assert figure(port, "oj_steps_total", kind="shell", outcome="completed") == 1
    assert figure(port, "oj_steps_total", kind="shell", outcome="failed") == 1
    assert figure(port, "oj_step_duration_seconds_count", kind="shell") == 2
    assert figure(port, "oj_job_duration_seconds_count", outcome="failed") == 1
    assert figure(port, "oj_is_leader") == 1
    told = world.oj("daemon", "status", "-o", "json").json
    assert (told["ready"], told["waits_for"]) == (True, [])
    assert figure(port, "oj_log_record") == told["seq"]
    assert figure(port, "oj_build_info", version=told["version"]) == 1
    size = sum(path.stat().st_size for path in (world.state / "wal").iterdir())
    assert figure(port, "oj_log_bytes") == size
    commits = figure(port, "oj_log_commit_seconds_count")
    assert commits is not None
    assert commits > 0
    until(lambda: figure(port, "oj_event_loop_lag_seconds_count"), 30, "the loop was measured")
    for path in ("/metrics", "/readyz", "/healthz", "/livez"):
        body = ask(port, path)[1]
        assert not re.search(r"\b(job|agt|crw|wks|dec)-[0-9a-z]", body)
        for secret in (TOKEN, ended["id"], ended["name"], str(world.project)):
            assert secret not in body


def test_after_a_restart_gauges_are_right_and_counters_begin_anew(world: World, port: int) -> None:
    world.job("""
        step "gate" { run = "until [ -e ${invoke.dir}/go ]; do sleep 0.05; done" }
    """)
    (world.project / "go").touch()
    world.run("build")
    (world.project / "go").unlink()
    waiting = world.start("build")
    world.until_running(waiting, "gate")
    world.kill_daemon()
    world.oj("daemon", "start")
    assert figure(port, "oj_jobs", state="completed") == 1
    assert figure(port, "oj_jobs", state="running") == 1
    assert figure(port, "oj_steps_total", kind="shell", outcome="completed") is None
    recovery = figure(port, "oj_recovery_seconds")
    assert recovery is not None
    assert recovery > 0
    (world.project / "go").touch()
    world.finish(waiting)
    assert figure(port, "oj_jobs", state="completed") == 2
    assert figure(port, "oj_steps_total", kind="shell", outcome="completed") == 1
    world.oj("daemon", "restart")
    age = figure(port, "oj_snapshot_age_seconds")
    assert age is not None, "the stop wrote one"
    assert 0 <= age < 600
    assert figure(port, "oj_snapshot_behind_records") == 0


def test_an_agent_leaves_its_start_its_cost_and_the_wait_for_a_human(
    world: World, port: int
) -> None:
    equip(world)
    runbook(world, 'on_idle = "escalate"', 'step "code" { run = { agent = "coder" } }')
    scenario(world, turn({"say": "done"}))
    job_id = world.start("build")
    until(lambda: figure(port, "oj_decisions_open", source="idle") == 1, 60, "a decision is open")
    assert figure(port, "oj_agents", state="waiting") == 1
    assert figure(port, "oj_agent_start_seconds_count", runtime="local") == 1
    (session,) = agents(world, job_id)
    spent = world.oj("agent", "show", session["id"], "-o", "json").json["usage"]
    for direction in ("input", "output", "cache_read", "cache_write"):
        told = figure(port, "oj_tokens_total", agent="coder", direction=direction)
        assert (told or 0) == spent[f"{direction}_tokens"]
    assert figure(port, "oj_tokens_total", agent="coder", direction="output")
    world.oj("cancel", job_id)
    world.finish(job_id)
    assert figure(port, "oj_decisions_open", source="idle") == 0
    assert figure(port, "oj_steps_total", kind="agent", outcome="cancelled") == 1
    assert (
        figure(port, "oj_tokens_total", agent="coder", direction="output") == spent["output_tokens"]
    )


def test_a_draining_daemon_is_alive_and_not_ready(world: World, port: int) -> None:
    """A hook of git holds up what is in flight."""
    world.git_project()
    hook = world.project / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f"#!/bin/sh\ntouch {world.project}/up\nuntil [ -e {world.project}/go ]; do sleep 0.05; done\n"
    )
    hook.chmod(0o755)
    world.job('source { git = true }\nstep "work" { run = "cat README" }')
    world.oj("daemon", "start", environ={"OJ_DRAIN_TIMEOUT_MS": "300000"})
    world.start("build")
    until((world.project / "up").exists, 60, "git is at work")
    pid = world.daemon_pid
    assert unmet(port) == {}
    world.signal_daemon(signal.SIGTERM)
    until(lambda: unmet(port), 30, "it is not ready")
    assert unmet(port) == {"draining": "stop asked for by SIGTERM"}
    assert ask(port, "/healthz")[0] == 200
    assert figure(port, "oj_ready", condition="draining") == 0
    shown = world.oj("daemon", "status").out
    assert "no (draining: stop asked for by SIGTERM)" in shown
    (world.project / "go").touch()
    until(lambda: not alive(pid), 60, "the daemon has ended")
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/healthz")


def test_a_port_that_is_taken_is_told_by_the_action_that_wanted_a_daemon(
    world: World, port: int
) -> None:
    with socket.create_server(("127.0.0.1", port)):
        refused = world.oj("daemon", "start", code=1)
    assert f"listen on 127.0.0.1 port {port} for probes and metrics: " in refused.err
    assert "OJ_HTTP_PORT" in refused.err
    assert "Traceback" not in refused.err
    lines = (world.state / "daemon.log").read_text().splitlines()
    assert len([line for line in lines if f"port {port} for probes" in line]) == 1
    world.oj("daemon", "start")
    assert ask(port, "/healthz")[0] == 200


def test_in_a_cluster_a_port_that_is_taken_is_one_line_of_json(world: World, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        child = world.spawn(
            "daemon", environ={"OJ_PROFILE": "cluster", "OJ_HTTP_BIND": "127.0.0.1"}
        )
        out, err = child.communicate(timeout=60)
    assert child.returncode == 1
    last = json.loads(out.splitlines()[-1])
    assert f"port {port} for probes" in last["message"]
    assert last["level"] == "critical"
    assert "Traceback" not in out + err


def test_a_stopped_daemon_does_not_answer_and_one_that_goes_on_tells_its_lag(
    world: World, port: int
) -> None:
    world.oj("daemon", "start")
    assert ask(port, "/healthz")[0] == 200
    world.signal_daemon(signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", port)) as probe:
        probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        probe.settimeout(2)
        with pytest.raises(TimeoutError):
            probe.recv(1)
        world.signal_daemon(signal.SIGCONT)
        probe.settimeout(30)
        assert probe.recv(12) == b"HTTP/1.1 200"

    def was_late() -> bool:
        found = scrape(port)
        all_of_them = found["oj_event_loop_lag_seconds_count", frozenset()]
        quick = found["oj_event_loop_lag_seconds_bucket", frozenset({("le", "0.5")})]
        return all_of_them > quick

    until(was_late, 30, "the pause is seen as lag")
