"""Jobs and agents as pods: the real `oj` and a real daemon against the loopback API server and its test kubelet (issue 5)."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.support.agents import FAST, agents, decision
from tests.support.far import Far
from tests.support.kube.container import unsupported
from tests.support.kube.process import Cluster, cluster
from tests.support.waiting import until
from tests.support.world import ROOT, World, ran

pytestmark = pytest.mark.skipif(bool(unsupported()), reason=unsupported())

SECONDS = 90.0
IMAGE = "registry.example.com/oj-agent:1"


class Ward:
    """A user, a cluster, and a daemon that runs jobs in it."""

    def __init__(self, world: World, kube: Cluster, bare: Path) -> None:
        self.world = world
        self.kube = kube
        self.bare = bare
        self.go = bare / "go"
        """What steps wait for: the pods see this folder."""
        world.environ |= {
            "OJ_RUNTIME": "kubernetes",
            "OJ_LEASE": "off",
            "OJ_K8S_KUBECONFIG": str(kube.kubeconfig),
            "OJ_K8S_IMAGE": IMAGE,
            "OJ_K8S_START_TIMEOUT_MS": "60000",
        }
        self.far = Far(world)

    def push(self) -> None:
        """What is in the project's folder is at the remote."""
        self.world.git("add", "-A")
        self.world.git("commit", "-q", "-m", "more", "--allow-empty")
        self.world.git("push", "-q", "origin", "HEAD")

    def restart(self) -> None:
        """Kill the daemon without a warning, and start the next one."""
        self.far.restart()

    def pods(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.kube.list("pods")]

    def until_clean(self) -> None:
        """No pod and no Secret is left."""
        until(
            lambda: not self.kube.list("pods") and not self.kube.list("secrets"),
            SECONDS,
            lambda: (
                f"left: {self.pods()}, {[s['metadata']['name'] for s in self.kube.list('secrets')]}"
            ),
        )

    def pod_of(self, job_id: str) -> str:
        """The pod of a job, once it is known."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [
                pod["metadata"]["name"]
                for pod in self.kube.list("pods")
                if pod["metadata"]["labels"].get("oj.dev/job-id") == job_id
            ]
            return bool(found)

        until(look, SECONDS, lambda: str(self.world.show(job_id)))
        return found[0]

    def told(self, job_id: str, text: str) -> None:
        """Wait until `oj job show` says so."""
        until(
            lambda: text in self.world.oj("job", "show", job_id).out,
            SECONDS,
            lambda: self.world.oj("job", "show", job_id).out + self.world.log(job_id),
        )


@pytest.fixture
def ward(world: World, short_path: Path) -> Iterator[Ward]:
    world.environ["PATH"] = f"{ROOT / 'tests/support/agent'}:{world.environ['PATH']}"
    bare = short_path / "repo.git"
    world.git_project()
    world.git("init", "-q", "--bare", str(bare))
    world.git("remote", "add", "origin", f"file://{bare}")
    (short_path / "kube").mkdir()
    with cluster(
        short_path / "kube", share=[bare, ROOT], env={**FAST, "PYTHONPATH": str(ROOT)}
    ) as kube:
        made = Ward(world, kube, bare)
        made.push()
        try:
            yield made
        finally:
            made.far.close()


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


def scenario(ward: Ward, *turns: dict[str, Any]) -> None:
    """What agents do; it is in the repository, so that they find it in their clone."""
    (ward.world.project / "agent-scenario.json").write_text(
        json.dumps({"turns": list(turns), "otherwise": [{"say": "Is that all?"}]})
    )


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
