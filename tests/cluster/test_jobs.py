"""Jobs and agents in a cluster, through the real `oj` here and the real daemon there: what it does, what it survives, what it says.

Rule: written for any cluster. What a step waits for is a branch of the repository, for nobody gets into a pod.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from tests.support.agents import agents
from tests.support.waiting import until
from tests.support.world import ROOT, ran
from tests.support.yard import MINUTES, NAME, Yard

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

DAEMON = f"{NAME}-0"
WHO = "git -c user.name=t -c user.email=t@example.com"


def held(branch: str) -> str:
    """Script of a step that says that it began, and waits until a branch is there."""
    look = f"git ls-remote --exit-code -q origin refs/heads/{branch} >/dev/null"
    return f"echo began; until {look}; do sleep 0.5; done; echo went"


def held_job(yard: Yard, branch: str) -> str:
    """A job whose first step waits for that branch; its id, once the step runs."""
    yard.world.job(f"""
        source = {{ git = true }}
        step "a" {{
          run     = "{held(branch)}"
          on_done = {{ step = "b" }}
        }}
        step "b" {{ run = "echo bee" }}
    """)
    yard.push()
    job = yard.world.start("build")
    yard.world.until_listed(job, "began", MINUTES)
    return job


def start_in(yard: Yard, container: str, script: str = "echo never") -> str:
    """Start a job of one step in such a container; its id."""
    yard.world.job(f"""
        source    = {{ git = true }}
        container = {{ {container} }}
        step "a" {{ run = "{script}" }}
    """)
    yard.push()
    return yard.world.start("build")


def drop(yard: Yard, job: dict[str, Any]) -> None:
    """Let go of what a failed job keeps for a resume."""
    if job["workspace"] is not None:
        yard.world.oj("workspace", "drop", job["workspace"]["id"], "--force")


def test_a_job_of_shell_steps_runs_in_a_clone_in_its_own_pod_and_pushes(yard: Yard) -> None:
    yard.world.job(f"""
        source = {{ git = true }}
        step "a" {{
          run     = "pwd; id -u; echo one > made; echo $$ > /tmp/mine"
          on_done = {{ step = "b" }}
        }}
        step "b" {{ run = "cat made /tmp/mine; git add made; {WHO} commit -qm shell && git push -q origin HEAD:shell" }}
    """)
    yard.push()
    done = yard.world.oj("run", "build", timeout=MINUTES)
    assert "/workspace" in done.out
    assert "completed build" in done.out
    yard.fetch("shell")
    assert yard.world.git("show", "FETCH_HEAD:made") == "one\n"


def test_an_agent_works_passes_its_gate_and_its_work_is_pushed(yard: Yard) -> None:
    # The scripted agent comes with the repository: standard library only, so any image with Python runs it.
    there = yard.world.project / "tests/support/agent"
    shutil.copytree(ROOT / "tests/support/agent", there, dirs_exist_ok=True)
    turns = [
        {"when": "did not pass", "do": [{"write": "more.txt", "text": "more\n"}, {"say": "Done."}]},
        {"do": [{"write": "made.txt", "text": "made\n"}, {"say": "Done?"}]},
    ]
    (yard.world.project / "agent-scenario.json").write_text(json.dumps({"turns": turns}))
    yard.world.runbook(f"""
        agent "coder" {{
          run     = "/workspace/tests/support/agent/claude"
          prompt  = "Please do it."
          on_idle = {{ action = "gate", run = "test -e more.txt", attempts = 3 }}
        }}
        command "build" {{ run = {{ job = "build" }} }}
        job "build" {{
          source = {{ git = true }}
          step "code" {{
            run     = {{ agent = "coder" }}
            on_done = {{ step = "ship" }}
          }}
          step "ship" {{
            run = "git add made.txt more.txt && {WHO} commit -qm made && git push -q origin HEAD:made"
          }}
        }}
    """)
    yard.push()
    job = yard.world.start("build")
    assert ran(yard.world.finish(job, MINUTES)) == ["code completed", "ship completed"]
    yard.fetch("made")
    assert "more.txt" in yard.world.git("show", "--stat", "FETCH_HEAD")
    (agent,) = agents(yard.world, job)
    assert agent["runtime"] == "kubernetes"
    assert "wrote: /workspace/more.txt" in yard.world.oj("agent", "logs", agent["id"]).out


def test_a_step_finds_its_way_to_the_daemon(yard: Yard) -> None:
    job = start_in(yard, f'image = "{yard.agent_image}"', "oj job show $OJ_JOB_ID")
    assert ran(yard.world.finish(job, MINUTES)) == ["a completed"], yard.world.log(job)
    assert f"Job:       {job}" in yard.world.log(job)


def test_a_step_outlives_a_daemon_that_is_killed(yard: Yard) -> None:
    job = held_job(yard, "killed")
    place, daemon = yard.place_of(job), yard.until_ready(DAEMON)
    yard.delete(DAEMON, grace=0)
    yard.until_ready(DAEMON, other_than=daemon["metadata"]["uid"])
    yard.push("killed")
    assert ran(yard.world.finish(job, MINUTES)) == ["a completed", "b completed"]
    log = yard.world.log(job)
    assert log.count("began") == log.count("went") == log.count("bee") == 1
    uid = place["metadata"]["uid"]
    until(
        lambda: uid not in {pod["metadata"]["uid"] for pod in yard.places().values()},
        MINUTES,
        "its place is gone",
    )


def test_a_step_outlives_a_rollout_of_the_daemon(yard: Yard) -> None:
    job = held_job(yard, "rolled")
    place, daemon = yard.place_of(job), yard.until_ready(DAEMON)
    yard.annotate_template("oj.dev/test", "rolled out")
    yard.until_ready(DAEMON, other_than=daemon["metadata"]["uid"])
    assert yard.place_of(job)["metadata"]["uid"] == place["metadata"]["uid"]
    yard.push("rolled")
    assert ran(yard.world.finish(job, MINUTES)) == ["a completed", "b completed"]
    log = yard.world.log(job)
    assert log.count("began") == log.count("went") == log.count("bee") == 1


def test_a_pod_that_somebody_deletes_is_told_and_the_job_does_not_hang(yard: Yard) -> None:
    job = held_job(yard, "never")
    yard.delete(yard.place_of(job)["metadata"]["name"], grace=0)
    shown = yard.world.finish(job, MINUTES)
    assert shown["status"] == "failed"
    assert "deleted" in shown["error"]
    drop(yard, shown)


def test_an_image_that_cannot_be_pulled_is_told_by_name(yard: Yard) -> None:
    job = start_in(yard, 'image = "registry.invalid/nobody/nothing:1"')
    yard.told(job, "image registry.invalid/nobody/nothing:1")
    yard.world.oj("job", "cancel", job)
    assert yard.world.finish(job, MINUTES)["status"] == "cancelled"


def test_a_place_that_no_node_has_room_for_waits_and_says_so(yard: Yard) -> None:
    job = start_in(yard, f'image = "{yard.agent_image}", cpu = "1000"')
    yard.told(job, "insufficient cpu")
    yard.world.oj("job", "cancel", job)
    assert yard.world.finish(job, MINUTES)["status"] == "cancelled"


def test_a_step_that_eats_too_much_memory_is_told_so(yard: Yard) -> None:
    eat = r"python3 -c 'import time; held = bytearray(b\"x\") * (1 << 29); time.sleep(600)'"
    job = start_in(yard, f'image = "{yard.agent_image}", memory = "256Mi"', eat)
    shown = yard.world.finish(job, MINUTES)
    assert shown["status"] == "failed"
    # Where the kernel kills single processes, it is the step alone that ends.
    assert "memory" in shown["error"] or "137" in shown["error"] or "KILL" in shown["error"]
    drop(yard, shown)


def test_the_daemon_may_do_nothing_but_what_it_needs(yard: Yard) -> None:
    assert yard.may("create", "pods")
    assert not yard.may("create", "pods", "exec")
    assert not yard.may("create", "pods", "portforward")
    for verb in ("get", "list", "watch"):
        assert not yard.may(verb, "secrets")
