"""What runbooks ask for, carried out in pods: containers, sources, locals, crews, credentials, and `oj` called from within."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agents import agents
from tests.support.kube.container import unsupported
from tests.support.waiting import until
from tests.support.ward import SECONDS, Ward, scenario, ward_of
from tests.support.world import NESTED, World, ran

pytestmark = pytest.mark.skipif(bool(unsupported()), reason=unsupported())


@pytest.fixture
def ward(world: World, short_path: Path) -> Iterator[Ward]:
    world.environ["OJ_K8S_CREDENTIAL_SECRET"] = "llm"
    world.environ["OJ_TIMEOUT_CONNECT_MS"] = "30000"  # a loaded machine
    with ward_of(Ward, world, short_path) as made:
        yield made


def until_clean(ward: Ward) -> None:
    """No pod is left, and no Secret but that of the credentials."""
    until(
        lambda: (
            not ward.kube.list("pods")
            and all(each["metadata"]["name"] == "llm" for each in ward.kube.list("secrets"))
        ),
        SECONDS,
        lambda: f"left: {ward.pods()}",
    )


def test_branches_refs_locals_and_parallel_steps_in_the_place(ward: Ward) -> None:
    world = ward.world
    world.git("checkout", "-q", "-b", "old")
    (world.project / "old").write_text("old\n")
    ward.push()
    world.git("checkout", "-q", "main")
    world.job("""
        source = {
          git    = true
          branch = "mine"
          ref    = "$(echo old)"
        }
        locals { top = "$(pwd)" }
        step "a" {
          run     = "echo top ${local.top}"
          on_done = ["b", "c"]
        }
        step "b" { run = "git rev-parse --abbrev-ref HEAD; cat old; touch b; until test -e c; do sleep 0.1; done" }
        step "c" { run = "touch c; until test -e b; do sleep 0.1; done" }
    """)
    ward.push()
    job = world.start("build")
    done = world.finish(job)
    log = world.log(job)
    assert done["status"] == "completed", log
    assert "top /workspace" in log
    assert "[b] mine" in log
    assert "[b] old" in log

    world.job("""
        source = "folder"
        step "a" { run = "ls -A; pwd" }
    """)
    job = world.start("build")
    assert world.finish(job)["status"] == "completed", world.log(job)
    assert "/workspace" in world.log(job)
    until_clean(ward)


def test_containers_of_runbook_and_project_reach_the_pod(ward: Ward) -> None:
    world = ward.world
    (world.project / ".oj/config.toml").write_text(
        '[container]\nimage = "registry.example.com/project:7"\ncpu = "1"\n'
    )
    body = f'step "a" {{ run = "until test -e {ward.go}; do sleep 0.1; done" }}'
    world.job(body, command="plain", name="plain.hcl")
    world.job(
        """
        container {
          image  = "registry.example.com/mine:8"
          memory = "700Mi"
          pod    = { spec = { priorityClassName = "low" } }
        }
        """
        + body,
    )
    ward.push()
    plain, mine = world.start("plain"), world.start("build")
    spec = ward.kube.pod(ward.pod_of(plain))["spec"]  # type: ignore[index]
    assert spec["containers"][0]["image"] == "registry.example.com/project:7"
    assert spec["containers"][0]["resources"]["limits"]["cpu"] == "1"
    spec = ward.kube.pod(ward.pod_of(mine))["spec"]  # type: ignore[index]
    assert spec["containers"][0]["image"] == "registry.example.com/mine:8"
    assert spec["containers"][0]["resources"]["limits"]["memory"] == "700Mi"
    assert spec["priorityClassName"] == "low"
    ward.go.touch()
    assert world.finish(plain)["status"] == world.finish(mine)["status"] == "completed"
    until_clean(ward)

    (world.project / ".oj/config.toml").write_text("[container]\nimege = 1\n")
    refused = world.oj("run", "plain", code=None)
    assert refused.code != 0
    assert "imege" in refused.err
    assert "Traceback" not in refused.err


def test_an_agent_with_a_container_has_a_pod_of_its_own_with_credentials_and_prompt_file(
    ward: Ward,
) -> None:
    world = ward.world
    ward.kube.create(
        "secrets",
        {
            "metadata": {"name": "llm"},
            "data": {"ANTHROPIC_API_KEY": base64.b64encode(b"sk-test").decode()},
        },
    )
    world.runbook(f"""
        agent "coder" {{
          run         = "claude"
          prompt_file = "ask.md"
          env         = {{ FLAVOUR = "sweet" }}
          on_idle     = {{ action = "done" }}
          container {{ image = "registry.example.com/coder:1" }}
        }}
        agent "lone" {{
          run     = "claude"
          prompt  = "Please do it."
          on_idle = {{ action = "done" }}
          container {{ image = "registry.example.com/lone:1" }}
        }}
        command "build" {{ run = {{ job = "build" }} }}
        command "crew" {{ run = {{ agent = "lone" }} }}
        job "build" {{
          step "code" {{
            run     = {{ agent = "coder" }}
            on_done = {{ step = "after" }}
          }}
          step "after" {{ run = "until test -e {ward.go}; do sleep 0.1; done; test ! -e own" }}
        }}
    """)
    (world.project / "ask.md").write_text("From a file.\n")
    (world.project / ".claude").mkdir()
    (world.project / ".claude/settings.json").write_text('{"env": {"SAID": "so"}}')
    seen = ward.bare / "seen"
    scenario(
        ward,
        {"when": "From a file", "do": [{"env": str(seen)}, {"write": "own", "text": "x"}, {"say": "Read."}]},
        {"do": [{"say": "Alone."}]},
    )  # fmt: skip
    ward.push()
    job = world.start("build")
    until(
        lambda: len(ward.pods()) == 1 and "[after] step started" in world.log(job),
        SECONDS,
        lambda: f"{ward.pods()} {world.log(job)}",
    )
    told = seen.read_text()
    assert "sk-test" in told
    assert "sweet" in told
    assert "oj-agt-" in told  # the name of its pod
    made = [each for each in ward.kube.requests() if each["method"] == "POST"]
    assert len([each for each in made if each["path"].endswith("/pods")]) == 2
    ward.go.touch()
    assert ran(world.finish(job)) == ["code completed", "after completed"], world.log(job)
    until_clean(ward)

    ward.kube.forget_requests()
    crew = world.start("crew")
    done = world.finish(crew)
    assert done["status"] == "completed", world.log(crew)
    (agent,) = agents(world, crew)
    assert "Alone." in world.oj("peek", agent["id"]).out
    until_clean(ward)
    assert ward.kube.counts()["POST pods"] == 1


def test_oj_in_a_step_reaches_the_daemon_with_its_own_token(ward: Ward) -> None:
    world = ward.world
    ward.far.server["OJ_K8S_DAEMON_URL"] = f"tls://127.0.0.1:{ward.far.port}"
    ward.restart()
    world.job(f"""
        step "a" {{ run = "{NESTED} job list && {NESTED} daemon status -o json; env | grep -c sesame || true" }}
    """)
    ward.push()
    job = world.start("build")
    done = world.finish(job)
    log = world.log(job)
    assert done["status"] == "completed", log
    assert "build" in log
    assert "sesame" not in log
    until_clean(ward)


def test_strays_of_this_daemon_are_swept_and_others_are_not(ward: Ward) -> None:
    world = ward.world
    world.job('step "a" { run = "exit 1" }')
    ward.push()
    job = world.start("build")
    assert world.finish(job)["status"] == "failed"
    mine = ward.kube.pod(ward.pod_of(job))
    assert mine is not None
    for name, instance in (("oj-wks-stray", None), ("oj-wks-other", "another")):
        labels = dict(mine["metadata"]["labels"])
        if instance is not None:
            labels["oj.dev/instance"] = instance
        container = {"name": "agent", "image": "x", "command": ["sleep", "1000"]}
        spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
        ward.kube.create("pods", {"metadata": {"name": name, "labels": labels}, "spec": spec})
    ward.kube.create("secrets", {"metadata": {"name": "oj-wks-stray"}})
    ward.restart()
    ward.kube.until_gone("oj-wks-stray")
    assert "removing the pod oj-wks-stray" in (world.state / "daemon.log").read_text()
    assert sorted(ward.pods()) == sorted(["oj-wks-other", mine["metadata"]["name"]])
    world.oj("workspace", "drop", "--all")
    ward.kube.delete("oj-wks-other", grace=0)
    until_clean(ward)


def test_an_agent_costs_six_requests_and_none_while_it_works(ward: Ward) -> None:
    world = ward.world
    world.runbook("""
        agent "coder" {
          run     = "claude"
          prompt  = "Please do it."
          on_idle = { action = "done" }
        }
        command "build" { run = { job = "build" } }
        job "build" { step "code" { run = { agent = "coder" } } }
    """)
    scenario(ward, {"do": [{"await": str(ward.go)}, {"say": "Done."}]})
    ward.push()
    ward.kube.forget_requests()
    jobs = [world.start("build") for _ in range(3)]

    def asked() -> int:
        """Requests of the daemon: those of this test are lists, and what one watch begins with is no agent's."""
        counts = ward.kube.counts()
        return sum(
            count
            for what, count in counts.items()
            if what not in ("GET pods", "GET secrets", "WATCH pods")
        )

    until(
        lambda: all(agents(world, job) and agents(world, job)[0]["state"] == "working" for job in jobs),
        SECONDS,
        lambda: str([agents(world, job) for job in jobs]),
    )  # fmt: skip
    while_they_work = asked()
    assert while_they_work == 3 * 3, ward.kube.counts()  # Secret, pod, owner of the Secret
    ward.go.touch()
    for job in jobs:
        assert world.finish(job)["status"] == "completed"
    until_clean(ward)
    assert asked() <= 6 * 3, ward.kube.counts()


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_sixty_places_at_once_cost_one_watch_and_a_handful_of_requests_each(ward: Ward) -> None:
    world, count = ward.world, 60
    began = ward.bare / "began"
    world.job(f"""
        step "a" {{ run = "echo x >> {began}; until test -e {ward.go}; do sleep 1; done" }}
    """)
    ward.push()
    ward.kube.forget_requests()
    at = time.monotonic()
    jobs = [world.start("build") for _ in range(count)]
    ordered = time.monotonic() - at

    def running() -> int:
        return began.read_text().count("x") if began.exists() else 0

    until(lambda: running() == count, 400, lambda: f"{running()} of {count}", pause=0.5)
    up = time.monotonic() - at
    before = ward.kube.counts()
    ward.go.touch()
    for job in jobs:
        assert world.finish(job, 120)["status"] == "completed"
    until_clean(ward)
    after = ward.kube.counts()
    sys.stdout.write(
        f"P14: {count} ordered after {ordered:.0f} s, up after {up:.0f} s; {dict(before)}; {dict(after)}\n"
    )
    assert before["POST pods"] == before["POST secrets"] == count
    assert before["WATCH pods"] <= 2  # one, and another should the first have ended
    assert not [what for what in after if what.startswith("GET pods/")], after
    assert after["DELETE pods/NAME"] == count
