"""The daemon is killed in every phase of a pod's life, and jobs are cancelled, suspended and resumed in it (issue 5)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import agents, decision
from tests.support.kube.container import unsupported
from tests.support.kube.process import state
from tests.support.moments import Moments
from tests.support.waiting import until
from tests.support.ward import SECONDS, Ward, scenario, ward_of
from tests.support.world import World, alive, ran

pytestmark = pytest.mark.skipif(bool(unsupported()), reason=unsupported())


class Life(Ward):
    """A ward whose pods can be stopped on the way."""

    moments: Moments

    @property
    def ledger(self) -> Path:
        """What each step writes its name to."""
        return self.bare / "ledger"

    def two_steps(self) -> None:
        """The job `build`: two steps that write to the ledger."""
        self.world.job(f"""
            source = {{ git = true }}
            step "a" {{
              run     = "echo a >> {self.ledger}"
              on_done = {{ step = "b" }}
            }}
            step "b" {{ run = "git rev-parse --abbrev-ref HEAD && echo b >> {self.ledger}" }}
        """)
        self.push()

    def did(self) -> list[str]:
        """What was done so far."""
        return self.ledger.read_text().split() if self.ledger.exists() else []

    def begin(self) -> str:
        """Start the job anew; its id."""
        self.ledger.unlink(missing_ok=True)
        return self.world.start("build")

    def ends_well(self, job: str) -> None:
        """It completes, each step has run once, and nothing is left."""
        done = self.world.finish(job, 120)
        assert ran(done) == ["a completed", "b completed"], (done, self.world.log(job))
        assert self.did() == ["a", "b"]
        self.until_clean()


@pytest.fixture
def life(world: World, short_path: Path) -> Iterator[Life]:
    moments = Moments(short_path / "repo.git/moments")
    world.environ["OJ_K8S_CHECKPOINT_MS"] = "1000"
    world.environ["OJ_TIMEOUT_CONNECT_MS"] = "30000"  # a loaded machine
    image = {"PATH": moments.path}
    with ward_of(Life, world, short_path, image, entry_point=moments.sidecar) as made:
        made.moments = moments
        yield made


def until_secret(life: Life) -> None:
    until(lambda: bool(life.kube.list("secrets")), SECONDS, "the Secret is made")


def test_killed_between_secret_and_pod_and_while_the_pod_waits_the_job_goes_on(life: Life) -> None:
    life.two_steps()
    life.kube.fault("status", method="POST", match="/pods", status=503)
    job = life.begin()
    until_secret(life)
    life.restart()
    assert life.pods() == []
    life.kube.heal()
    life.ends_well(job)

    life.kube.hold()
    job = life.begin()
    pod = life.pod_of(job)
    life.kube.until_pod(pod, lambda each: state(each).get("waiting"), "waits")
    life.restart()
    life.kube.lift()
    life.ends_well(job)
    assert life.world.show(job)["workspace"] is None


def test_a_daemon_that_is_to_stop_does_not_wait_for_a_pod_and_the_next_one_does(
    life: Life,
) -> None:
    life.far.server["OJ_DRAIN_TIMEOUT_MS"] = "3600000"  # longer than anybody waits here
    life.restart()
    life.two_steps()
    life.kube.hold()
    job = life.begin()
    pod = life.pod_of(job)
    life.kube.until_pod(pod, lambda each: state(each).get("waiting"), "waits")
    daemon = life.world.daemon_pid
    os.kill(daemon, signal.SIGTERM)
    until(lambda: not alive(daemon), SECONDS, "it drains for ever")
    assert life.world.state.joinpath("daemon.pid").exists() is False
    life.far.start()
    life.kube.lift()
    life.ends_well(job)
    asked = [each["path"] for each in life.kube.requests() if each["method"] == "POST"]
    assert len([path for path in asked if path.endswith("/pods")]) == 1


@pytest.mark.parametrize("moment", ["clone", "place", "branch"])
def test_killed_while_the_place_comes_up_the_same_pod_is_gone_on_with(
    life: Life, moment: str
) -> None:
    life.two_steps()
    life.moments.hold(moment)
    job = life.begin()
    life.moments.reached(moment)
    life.restart()
    life.moments.let_go(moment)
    life.ends_well(job)
    asked = [each["path"] for each in life.kube.requests() if each["method"] == "POST"]
    assert len([path for path in asked if path.endswith("/pods")]) == 1


def test_killed_while_a_step_runs_and_while_the_pod_is_deleted_nothing_is_done_twice(
    life: Life,
) -> None:
    life.world.job(f"""
        source = {{ git = true }}
        step "a" {{
          run     = "echo a >> {life.ledger}; until test -e {life.go}; do sleep 0.1; done"
          on_done = {{ step = "b" }}
        }}
        step "b" {{ run = "echo b >> {life.ledger}" }}
    """)
    life.push()
    job = life.begin()
    until(lambda: life.did() == ["a"], SECONDS, lambda: life.world.log(job))
    life.restart()
    pod = life.pod_of(job)
    # The pod is asked to go and does not: its sidecar hears nothing.
    life.kube.fault("status", method="DELETE", match="/pods", status=503)
    life.go.touch()
    until(lambda: life.did() == ["a", "b"], SECONDS, lambda: life.world.log(job))
    until(
        lambda: any(each["method"] == "DELETE" for each in life.kube.requests()),
        SECONDS,
        "its removal was tried",
    )
    life.restart()
    life.kube.freeze(pod)
    life.kube.heal()
    life.kube.until_pod(pod, lambda each: each["metadata"].get("deletionTimestamp"), "is deleted")
    life.restart()
    life.kube.thaw(pod)
    life.ends_well(job)


def test_killed_during_a_cancel_the_job_is_cancelled_and_its_pod_goes(life: Life) -> None:
    life.world.job(f"""
        source    = {{ git = true }}
        on_cancel = {{ step = "tidy" }}
        step "a" {{ run = "echo a >> {life.ledger}; sleep 1000" }}
        step "tidy" {{ run = "echo tidy >> {life.ledger}" }}
    """)
    life.push()
    job = life.begin()
    until(lambda: life.did() == ["a"], SECONDS, lambda: life.world.log(job))
    pod = life.pod_of(job)
    life.kube.freeze(pod)
    life.world.oj("cancel", job)
    life.restart()
    life.kube.thaw(pod)
    assert life.world.finish(job, 120)["status"] == "cancelled"
    assert life.did() == ["a", "tidy"]
    life.until_clean()

    # While the pod waits; nothing of the job has ever run.
    life.kube.hold()
    life.kube.fault("status", method="DELETE", match="/pods", status=503)
    job = life.begin()
    pod = life.pod_of(job)
    life.world.oj("cancel", job)
    life.restart()
    life.kube.heal()
    assert life.world.finish(job, 120)["status"] == "cancelled"
    assert life.did() == []
    life.until_clean()


def agent_job(life: Life, action: str, *turns: dict[str, Any]) -> str:
    """A job with an agent step that is begun; its id."""
    life.world.runbook(f"""
        agent "coder" {{
          run     = "claude"
          prompt  = "Please do it."
          on_idle = {action}
        }}
        command "build" {{ run = {{ job = "build" }} }}
        job "build" {{
          source = {{ git = true }}
          step "a" {{
            run     = {{ agent = "coder" }}
            on_done = {{ step = "b" }}
          }}
          step "b" {{ run = "echo b >> {life.ledger}; cat made >&2" }}
        }}
    """)
    scenario(life, *turns)
    life.push()
    return life.begin()


def works(life: Life, *more: dict[str, Any]) -> dict[str, Any]:
    """A turn in which the agent writes to the ledger."""
    return {"times": 1, "do": [{"run": f"echo a >> {life.ledger}", "to": "made"}, *more]}


def test_killed_while_an_agent_is_spawned_works_and_is_checked_it_goes_on(life: Life) -> None:
    checked = life.bare / "checked"
    gate = f"echo x >> {checked}; until test -e {life.go}; do sleep 0.1; done"
    life.moments.hold("agent")
    work = life.bare / "work"
    job = agent_job(
        life,
        f'{{ action = "gate", run = "{gate}" }}',
        works(life, {"await": str(work)}, {"say": "Done."}),
    )
    life.moments.reached("agent")
    life.restart()
    life.moments.let_go("agent")
    until(lambda: life.did() == ["a"], SECONDS, lambda: life.world.log(job))
    life.restart()
    work.touch()
    until(checked.exists, SECONDS, lambda: life.world.log(job))
    life.restart()
    life.go.touch()
    life.ends_well(job)
    assert checked.read_text() == "x\n"
    assert len(agents(life.world, job)) == 1


def test_a_daemon_without_the_cluster_calls_nothing_in_it_gone_and_the_next_one_goes_on(
    life: Life,
) -> None:
    """Both a step and an agent; and what is cancelled meanwhile is over."""
    waits = f"until test -e {life.go}; do sleep 0.1; done"
    agent = agent_job(life, '{ action = "done" }', works(life, {"await": str(life.go)}))
    until(lambda: life.did() == ["a"], SECONDS, lambda: life.world.log(agent))
    life.world.job(
        f'step "c" {{ run = "echo c >> {life.ledger}; {waits}" }}', command="step", name="step.hcl"
    )
    step, doomed = life.world.start("step"), life.world.start("step")
    until(lambda: life.did() == ["a", "c", "c"], SECONDS, lambda: life.world.log(step))
    life.far.server["OJ_RUNTIME"] = "local"
    life.restart()
    for job in (agent, step, doomed):
        until(lambda job=job: "left as it is" in life.world.log(job), SECONDS, job)  # type: ignore[misc]
        assert "start it with OJ_RUNTIME=kubernetes" in life.world.log(job)
        assert life.world.status(job) == "running"
    life.world.oj("cancel", doomed)
    assert life.world.finish(doomed)["status"] == "cancelled"
    life.far.server["OJ_RUNTIME"] = "kubernetes"
    life.restart()
    life.go.touch()
    for job in (agent, step):
        assert life.world.finish(job, 120)["status"] == "completed", life.world.log(job)
    assert sorted(life.did()) == ["a", "b", "c", "c"]
    assert len(agents(life.world, agent)) == 1
    life.until_clean()


def test_killed_while_an_agent_asks_and_while_it_waits_the_answers_count(life: Life) -> None:
    job = agent_job(
        life,
        '{ action = "escalate" }',
        works(life, {"write": "w", "text": "x", "ask": True}, {"say": "That is it."}),
    )
    view = decision(life.world)
    assert "w" in view["context"] or "Write" in view["context"], view
    life.restart()
    assert decision(life.world)["id"] == view["id"]
    life.world.oj("decision", "resolve", view["id"], "1")
    until(
        lambda: (
            [each["id"] for each in life.world.oj("decision", "list", "-o", "json").json]
            not in ([], [view["id"]])
        ),
        SECONDS,
        lambda: life.world.log(job),
    )
    idle = decision(life.world)
    life.restart()
    assert "That is it." in life.world.oj("peek", job).out
    life.world.oj("decision", "resolve", idle["id"], "2")
    life.ends_well(job)
    assert len(agents(life.world, job)) == 1


def test_suspended_and_resumed_in_a_step_in_an_agent_and_before_the_pod_is_there(
    life: Life,
) -> None:
    life.two_steps()
    life.kube.hold()
    job = life.begin()
    pod = life.pod_of(job)
    life.world.oj("job", "suspend", job)
    assert life.world.finish(job)["status"] == "suspended"
    life.kube.lift()
    life.kube.until_ready(pod)
    life.world.oj("resume", job)
    life.ends_well(job)

    life.world.job(f"""
        source = {{ git = true }}
        step "a" {{ run = "echo a >> {life.ledger}; echo $$ > mine; test -e kept || {{ touch kept; sleep 1000; }}" }}
    """)
    life.push()
    job = life.begin()
    until(lambda: life.did() == ["a"], SECONDS, lambda: life.world.log(job))
    life.world.oj("job", "suspend", job)
    assert life.world.finish(job)["status"] == "suspended"
    life.restart()
    pod = life.pod_of(job)
    life.world.oj("resume", job)
    assert life.world.finish(job)["status"] == "completed"
    assert life.did() == ["a", "a"]
    life.until_clean()

    work = life.bare / "work"
    job = agent_job(
        life,
        '{ action = "done" }',
        {"do": [{"say": "resumed"}], "resumed": True},
        works(life, {"await": str(work)}),
    )
    until(lambda: life.did() == ["a"], SECONDS, lambda: life.world.log(job))
    life.world.oj("job", "suspend", job)
    assert life.world.finish(job)["status"] == "suspended"
    assert life.pods() != []
    life.world.oj("resume", job)
    done = life.world.finish(job, 120)
    assert done["status"] == "completed", life.world.log(job)
    (first, second) = agents(life.world, job)
    assert first["session_id"] == second["session_id"]
    life.until_clean()


def test_a_failed_job_keeps_its_pod_until_it_is_resumed_dropped_or_pruned(life: Life) -> None:
    life.world.job(f"""
        source = {{ git = true }}
        step "a" {{
          run     = "echo a >> {life.ledger}; touch kept"
          on_done = {{ step = "b" }}
        }}
        step "b" {{ run = "test -e kept && test -e {life.go} && echo b >> {life.ledger}" }}
    """)
    life.push()
    job = life.begin()
    assert life.world.finish(job)["status"] == "failed"
    pod = life.kube.pod(life.pod_of(job))
    life.restart()
    life.go.touch()
    life.world.oj("resume", job)
    assert life.world.finish(job)["status"] == "completed"
    assert life.did() == ["a", "b"]
    life.until_clean()
    made = [each["path"] for each in life.kube.requests() if each["method"] == "POST"]
    assert len([path for path in made if path.endswith("/pods")]) == 1, pod

    life.go.unlink()
    job = life.begin()
    assert life.world.finish(job)["status"] == "failed"
    workspace = life.world.show(job)["workspace"]["id"]
    assert "/workspace" in life.world.oj("workspace", "list").out
    life.world.oj("workspace", "drop", workspace)
    life.until_clean()

    job = life.begin()
    assert life.world.finish(job)["status"] == "failed"
    life.world.oj("job", "prune", "--all")
    life.until_clean()
    assert life.world.oj("job", "show", job, code=None).code != 0


def test_work_of_an_agent_whose_pod_is_lost_is_brought_back_with_its_conversation(
    life: Life,
) -> None:
    life.world.runbook("""
        agent "coder" {
          run     = "claude"
          prompt  = "Please do it."
          on_idle = { action = "done" }
          on_dead = { action = "resume" }
        }
        command "build" { run = { job = "build" } }
        job "build" {
          source = { git = true }
          step "a" {
            run     = { agent = "coder" }
            on_done = { step = "b" }
          }
          step "b" {
            run = "cat committed loose; git status --porcelain; git log -3 --format=%s; test ! -e README"
          }
        }
    """)
    work = (
        "echo one > committed; git add committed; git commit -qm mine; echo two > loose; rm README"
    )
    name = "git config user.name t; git config user.email t@example.com; "
    scenario(
        life,
        {"resumed": True, "do": [{"say": "Resumed after: {prompt}"}]},
        {"do": [{"say": "Remember me."}, {"run": name + work, "to": "log"}, {"await": "/never"}]},
    )
    life.push()
    job = life.begin()
    saved = life.world.state / "checkpoints" / job

    def has_all() -> bool:
        agent_id = agents(life.world, job)[0]["id"] if agents(life.world, job) else ""
        kept = life.world.state / "logs" / "agent" / agent_id / "session.jsonl"
        bundles = list(saved.glob("*.bundle"))
        if not bundles or not kept.exists() or "Remember me." not in kept.read_text():
            return False
        listed = life.world.git("bundle", "list-heads", str(bundles[0]))
        return "refs/heads/" in listed

    until(has_all, 30, lambda: (life.world.state / "daemon.log").read_text()[-1500:])
    pod = life.pod_of(job)
    life.kube.delete(pod, grace=0)
    done = life.world.finish(job, 100)
    log = life.world.log(job)
    assert ran(done) == ["a completed", "b completed"], log
    assert "[b] one" in log
    assert "[b] two" in log
    assert "[b] ?? loose" in log
    assert "[b]  D README" in log
    assert "[b] mine" in log
    assert "checkpoint of" not in log
    assert "was brought back" in log
    first, second = sorted(agents(life.world, job), key=lambda each: each["created_at_ms"])
    assert second["session_id"] == first["session_id"]
    assert "Resumed after:" in life.world.oj("peek", second["id"]).out
    life.until_clean()
    # It was not pushed, so it is kept until the job is pruned.
    assert "git fetch" in log or "git fetch" in life.world.log(job)
    assert list(saved.glob("*.bundle"))
    life.world.oj("job", "prune", "--all")
    until(lambda: not saved.exists(), SECONDS, "the checkpoint goes with its job")
