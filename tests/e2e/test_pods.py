"""Jobs and agents as pods: the real `oj` and a real daemon against the loopback API server and its test kubelet (issue 5)."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.agents import agents, decision
from tests.support.kube.container import unsupported
from tests.support.waiting import until
from tests.support.ward import SECONDS, Ward, scenario, ward_of
from tests.support.world import World, ran

pytestmark = pytest.mark.skipif(bool(unsupported()), reason=unsupported())


@pytest.fixture
def ward(world: World, short_path: Path) -> Iterator[Ward]:
    with ward_of(Ward, world, short_path) as made:
        yield made


def test_a_job_of_shell_steps_runs_in_a_clone_in_its_own_pod_and_leaves_nothing(ward: Ward) -> None:
    ward.world.job("""
        step "a" {
          run     = "pwd; git rev-parse --abbrev-ref HEAD; echo one > made; echo $$ > /tmp/mine; id -u"
          on_done = { step = "b" }
        }
        step "b" { run = "cat made /tmp/mine; hostname >/dev/null" }
    """)
    ward.push()
    done = ward.world.oj("run", "build")
    assert "/workspace" in done.out
    assert "completed build" in done.out
    ward.until_clean()


def test_steps_survive_the_daemon(ward: Ward) -> None:
    ward.world.job(f"""
        step "a" {{
          run     = "echo began; until test -e {ward.go}; do sleep 0.1; done; echo went"
          on_done = {{ step = "b" }}
        }}
        step "b" {{ run = "echo bee" }}
    """)
    ward.push()
    job = ward.world.start("build")
    ward.told(job, "running")
    until(lambda: "began" in ward.world.log(job), SECONDS, lambda: ward.world.log(job))
    pod = ward.pod_of(job)
    ward.restart()
    ward.world.signal_daemon(signal.SIGTERM)
    until(lambda: not (ward.world.state / "daemon.pid").exists(), 30, "the daemon has ended")
    ward.go.touch()
    ward.far.start()
    assert ran(ward.world.finish(job)) == ["a completed", "b completed"]
    log = ward.world.log(job)
    assert log.count("began") == log.count("went") == log.count("bee") == 1
    assert ward.world.show(job)["workspace"] is None
    assert pod.startswith("oj-wks-")
    ward.until_clean()


AGENT = """
    agent "coder" {
      run     = "claude"
      prompt  = "Please do it."
      on_idle = { action = "gate", run = "test -e more.txt", attempts = 3 }
    }
    command "build" { run = { job = "build" } }
    job "build" {
      source = { git = true }
      step "code" {
        run     = { agent = "coder" }
        on_done = { step = "ship" }
      }
      step "ship" {
        run = "git add -A && git -c user.name=t -c user.email=t@example.com commit -qm made && git push -q origin HEAD:made"
      }
    }
"""


def test_the_runbook_of_the_readme_clone_agent_gate_commit_and_push(ward: Ward) -> None:
    ward.world.runbook(AGENT)
    scenario(
        ward,
        {"when": "did not pass", "do": [{"write": "more.txt", "text": "more\n"}, {"say": "Done."}]},
        {"do": [{"write": "made.txt", "text": "made\n"}, {"say": "Done?"}]},
    )
    ward.push()
    job = ward.world.start("build")
    assert ran(ward.world.finish(job, 120)) == ["code completed", "ship completed"]
    shown = ward.world.git("--git-dir", str(ward.bare), "show", "--stat", "--format=%s", "made")
    assert "made.txt" in shown
    assert "more.txt" in shown
    (agent,) = agents(ward.world, job)
    assert agent["runtime"] == "kubernetes"
    assert agent["usage"]["input_tokens"] > 0
    assert "Done." in ward.world.oj("peek", agent["id"]).out
    assert "wrote: /workspace/more.txt" in ward.world.oj("agent", "logs", agent["id"]).out
    ward.until_clean()


def test_an_agent_in_a_pod_is_asked_answered_and_outlives_the_daemon(ward: Ward) -> None:
    ward.world.runbook(
        AGENT.replace(
            'action = "gate", run = "test -e more.txt", attempts = 3', 'action = "escalate"'
        )
    )
    scenario(ward, {"do": [{"write": "made.txt", "text": "x"}, {"say": "Hello from a pod."}]})
    ward.push()
    job = ward.world.start("build")
    view = decision(ward.world)
    assert "idle" in view["summary"]
    ward.restart()
    assert "Hello from a pod." in ward.world.oj("peek", job).out
    child = pexpect.spawn(
        sys.executable,
        ["-m", "oj_cli", "attach", job],
        env={**ward.world.environ, "TERM": "xterm-256color"},
        cwd=str(ward.world.project),
        dimensions=(30, 100),
        timeout=SECONDS,
    )
    child.expect_exact(b"Attached to agent")
    child.expect_exact(b"Hello from a pod.")
    child.send(b"\x1d")
    child.expect_exact(b"Detached from agent")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    ward.world.oj("decision", "resolve", view["id"], "2")
    assert ran(ward.world.finish(job, 120)) == ["code completed", "ship completed"]
    ward.until_clean()
