"""What clusters do to pods, and what jobs make of it: the real `oj` and daemon, and a test cluster that misbehaves (issue 5).

Rule: every job writes what it did into a file that outlives its pod, so nothing can run twice unseen.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.e2e import test_pods
from tests.support.agents import agents
from tests.support.kube.container import unsupported
from tests.support.waiting import until
from tests.support.ward import SECONDS, Ward, scenario
from tests.support.world import ran

pytestmark = pytest.mark.skipif(bool(unsupported()), reason=unsupported())

ward = test_pods.ward
NO_NODE = "no node takes the pod: 0/1 nodes are available: 1 Insufficient cpu."


def write(ward: Ward, body: str = "", **commands: str) -> None:
    """A runbook with a job for each command; whatever each runs is pushed."""
    ward.world.runbook(
        "\n".join(
            f"""
            command "{name}" {{ run = {{ job = "{name}" }} }}
            job "{name}" {{
              {text}
            }}
            """
            for name, text in commands.items()
        )
        + body
    )
    ward.push()


def step(ward: Ward, name: str) -> str:
    """A step that writes down that it began, waits until it may go on, and writes down that it ended."""
    note = f"tee -a {ward.bare / 'did'}"
    wait = f"until test -e {ward.go}-{name}; do sleep 0.1; done"
    return f"""
        step "work" {{
          run = "echo {name} began | {note}; {wait}; echo {name} went | {note}"
        }}
    """


def go(ward: Ward, *names: str) -> None:
    """Let the steps of these go on."""
    for name in names:
        ward.go.with_name(f"{ward.go.name}-{name}").touch()


def did(ward: Ward) -> Counter[str]:
    """How often each line was written down."""
    path = ward.bare / "did"
    return Counter(path.read_text().splitlines() if path.exists() else ())


def until_did(ward: Ward, *lines: str) -> None:
    """Wait until these were written down."""
    until(lambda: set(lines) <= did(ward).keys(), SECONDS, lambda: f"{lines} in {did(ward)}")


def error(ward: Ward, job: str) -> str:
    """Why a job has failed."""
    shown = ward.world.finish(job, SECONDS)
    assert shown["status"] == "failed", shown
    return str(shown["error"])


def uid(ward: Ward, name: str) -> str:
    """The UID of the pod that has this name now; empty when none has."""
    pod = ward.kube.pod(name)
    return str(pod["metadata"]["uid"]) if pod is not None else ""


def until_another(ward: Ward, name: str, *before: str) -> str:
    """Wait until a pod has the name that is none of these; its UID."""
    until(
        lambda: uid(ward, name) not in ("", *before),
        SECONDS,
        lambda: f"{name} is made again: {ward.kube.pod(name)}",
    )
    return uid(ward, name)


def patient(ward: Ward, milliseconds: int) -> None:
    """Another daemon, which waits as long for a place."""
    ward.far.server["OJ_K8S_START_TIMEOUT_MS"] = str(milliseconds)
    ward.restart()


CODERS = """
    agent "resumed" {
      run     = "claude"
      prompt  = "Please do it."
      on_dead = { action = "resume", attempts = 2 }
      on_idle = { action = "escalate" }
    }
    agent "asked" {
      run     = "claude"
      prompt  = "Please do it."
      on_dead = { action = "escalate" }
      on_idle = { action = "escalate" }
    }
"""


def asked(ward: Ward, job: str, text: str) -> dict[str, Any]:
    """The decision that a job waits for, once it says so."""
    found: list[Any] = []

    def is_there() -> bool:
        found[:] = [each for each in ward.world.show(job)["decisions"] if text in each["summary"]]
        return bool(found)

    until(is_there, SECONDS, lambda: str(ward.world.show(job)["decisions"]) + ward.world.log(job))
    return dict(found[0])


def answer(ward: Ward, job: str, text: str, label: str) -> None:
    """Answer the decision that says so."""
    id_ = asked(ward, job, text)["id"]
    view = ward.world.oj("decision", "show", id_, "-o", "json").json
    number = next(each["number"] for each in view["options"] if each["label"] == label)
    ward.world.oj("decision", "resolve", id_, str(number))


def test_what_keeps_a_pod_from_starting_is_told_and_waited_for_and_not_for_ever(ward: Ward) -> None:
    write(
        ward,
        room=step(ward, "room"),
        image='container { image = "registry.example.com/nosuch:1" }\n' + step(ward, "image"),
    )
    go(ward, "room", "image")
    ward.kube.unschedulable()
    room = ward.world.start("room")
    ward.told(room, NO_NODE)
    ward.told(room, "ask for less cpu")
    assert NO_NODE[:60] in ward.world.oj("status").out
    ward.kube.lift("unschedulable")
    assert ran(ward.world.finish(room)) == ["work completed"]
    ward.kube.unpullable("nosuch")
    image = ward.world.start("image")
    ward.told(image, "the image registry.example.com/nosuch:1 of the container")
    ward.told(image, "push the image, or correct container { image }")
    ward.kube.lift("image")
    assert ran(ward.world.finish(image)) == ["work completed"]
    ward.until_clean()

    patient(ward, 2000)
    ward.kube.unschedulable()
    never = ward.world.start("room")
    text = error(ward, never)
    assert f"the place did not come up within 2 s: {NO_NODE}" in text
    assert "ask for less cpu" in text
    ward.kube.lift("unschedulable")
    ward.kube.unpullable("nosuch")
    text = error(ward, ward.world.start("image"))
    assert "the place did not come up within 2 s: the image registry.example.com/nosuch:1" in text
    assert "push the image" in text
    ward.until_clean()
    assert did(ward) == {
        f"{name} {what}": 1 for name in ("room", "image") for what in ("began", "went")
    }


def test_a_quota_is_waited_for_unless_it_never_has_room_and_what_is_forbidden_fails(
    ward: Ward,
) -> None:
    write(ward, first=step(ward, "first"), second=step(ward, "second"))
    ward.kube.quota({"pods": "1"})
    first = ward.world.start("first")
    until_did(ward, "first began")
    second = ward.world.start("second")
    ward.told(second, "pods: 1 requested, 1 of 1 used")
    assert "wait: oj tries again when others have ended" in ward.world.oj("job", "show", second).out
    cancelled = ward.world.start("second")
    ward.told(cancelled, "pods: 1 requested, 1 of 1 used")
    ward.world.oj("job", "cancel", cancelled)
    assert ward.world.finish(cancelled)["status"] == "cancelled"
    go(ward, "first", "second")
    # Sooner than after the 30 s: the first has made room.
    assert ran(ward.world.finish(first)) == ["work completed"]
    assert ran(ward.world.finish(second)) == ["work completed"]
    ward.until_clean()

    ward.kube.quota({"requests.cpu": "100m"})
    text = error(ward, ward.world.start("first"))
    assert "never allows as much: requests.cpu of 250m of at most 100m is requested" in text
    assert "container { requests" in text
    ward.kube.lift_quota()
    ward.until_clean()

    ward.kube.forbid("POST", "/secrets")
    ward.kube.forbid("DELETE", "/secrets")  # most probably the Role does not name them at all
    text = error(ward, ward.world.start("first"))
    assert "the daemon has no right to do this: secrets is forbidden" in text
    assert "oj daemon manifest prints it" in text
    ward.until_clean()
    assert did(ward) == {
        f"{name} {what}": 1 for name in ("first", "second") for what in ("began", "went")
    }


def test_a_place_that_does_not_come_up_says_what_only_its_events_tell(ward: Ward) -> None:
    write(ward, first=step(ward, "first"))
    ward.far.server["OJ_K8S_SSH_SECRET"] = "absent"
    patient(ward, 4000)
    text = error(ward, ward.world.start("first"))
    assert "the place did not come up within 4 s" in text
    assert 'secret "absent" not found' in text
    ward.until_clean()


def test_a_pod_that_is_lost_before_it_was_ready_is_made_again_a_few_times(ward: Ward) -> None:
    names = ("evicted", "deleted", "copied", "doomed")
    write(ward, **{name: step(ward, name) for name in names})
    go(ward, *names)
    ward.kube.hold()
    jobs = {name: ward.world.start(name) for name in names}
    pods = {name: ward.pod_of(job) for name, job in jobs.items()}
    first = {name: uid(ward, pod) for name, pod in pods.items()}
    for job in jobs.values():
        ward.told(job, "the pod starts on its node")
    ward.kube.evict(pods["evicted"])
    ward.kube.delete(pods["deleted"], 0)
    copy = str(ward.kube.recreate(pods["copied"])["metadata"]["uid"])
    seen = [first["doomed"]]
    for _ in range(3):
        ward.kube.evict(pods["doomed"])
        seen.append(until_another(ward, pods["doomed"], *seen))
        ward.told(jobs["doomed"], "the pod starts on its node")
    ward.kube.evict(pods["doomed"])
    text = error(ward, jobs["doomed"])
    assert "the pod was evicted: The node was low on resource" in text
    assert "container { limits" in text
    for name in ("evicted", "deleted"):
        until_another(ward, pods[name], first[name])
    until_another(ward, pods["copied"], first["copied"], copy)
    ward.kube.lift("hold")
    for name in ("evicted", "deleted", "copied"):
        assert ran(ward.world.finish(jobs[name], SECONDS)) == ["work completed"]
    assert "the pod was evicted: The node was low" in ward.world.log(jobs["evicted"])
    assert "it is made again" in ward.world.log(jobs["evicted"])
    for name in ("deleted", "copied"):
        assert "the pod was deleted while it started; it is made again" in ward.world.log(
            jobs[name]
        )
    ward.until_clean()
    assert did(ward) == {f"{name} {what}": 1 for name in names[:3] for what in ("began", "went")}


def test_a_pod_that_is_lost_while_a_step_runs_ends_the_step_and_an_address_that_changes_does_not(
    ward: Ward,
) -> None:
    names = ("evicted", "oom", "deleted", "copied", "moved", "node")
    write(ward, **{name: step(ward, name) for name in names})
    jobs = {name: ward.world.start(name) for name in names}
    pods = {name: ward.pod_of(job) for name, job in jobs.items()}
    until_did(ward, *(f"{name} began" for name in names))
    ward.kube.lose_node(pods["node"])
    ward.kube.delete(pods["node"], 1)  # nobody ends it, whatever its grace
    ward.kube.evict(pods["evicted"])
    ward.kube.oom(pods["oom"])
    ward.kube.delete(pods["deleted"])
    copy = ward.kube.recreate(pods["copied"])
    ward.kube.move(pods["moved"])

    assert "interrupted: the pod was evicted: The node was low" in error(ward, jobs["evicted"])
    text = error(ward, jobs["oom"])
    assert "interrupted: the agent's container was killed because it wanted more memory" in text
    assert "its limit of 4Gi" in text
    assert "OJ_K8S_MEMORY_LIMIT=8Gi" in text
    assert "interrupted: the pod was deleted while its agent ran" in error(ward, jobs["deleted"])
    assert "find out who or what deletes pods of oj" in error(ward, jobs["deleted"])
    assert "interrupted: the pod was deleted while its agent ran" in error(ward, jobs["copied"])
    assert uid(ward, pods["copied"]) == copy["metadata"]["uid"]
    go(ward, "moved")
    assert ran(ward.world.finish(jobs["moved"])) == ["work completed"]
    assert "the node of the pod was lost: Taint manager" in error(ward, jobs["node"])
    began = {f"{name} began": 1 for name in names}
    assert did(ward) == {**began, "moved went": 1}

    # Whoever says so lets a step run again, in a place that is made again.
    go(ward, "evicted", "copied")
    for name in ("evicted", "copied"):
        ward.world.oj("job", "resume", jobs[name])
        shown = ward.world.finish(jobs[name], SECONDS)
        assert shown["status"] == "completed", (shown, ward.world.log(jobs[name]))
        assert "it is made again" in ward.world.log(jobs[name])
    assert did(ward)["evicted began"] == did(ward)["copied began"] == 2
    for name in ("oom", "deleted", "node"):
        ward.world.oj("workspace", "drop", ward.world.show(jobs[name])["workspace"]["id"])
    ward.until_clean()


def test_a_pod_that_the_cluster_gave_up_is_over_though_its_connections_hang(ward: Ward) -> None:
    write(ward, step=step(ward, "step"))
    job = ward.world.start("step")
    until_did(ward, "step began")
    pod = ward.pod_of(job)
    ward.kube.freeze(pod)
    ward.kube.set_status(pod, {"phase": "Failed", "reason": "NodeLost", "message": "no news of it"})
    # A request to the place takes a minute to be given up.
    shown = ward.world.finish(job, 30)
    assert shown["status"] == "failed", shown
    assert "interrupted: " in shown["error"]
    ward.world.oj("workspace", "drop", "--all")
    ward.until_clean()


def test_an_api_server_that_is_slow_forgetful_silent_or_away_costs_time_and_nothing_else(
    ward: Ward,
) -> None:
    names = ("old", "throttled", "broken", "expired", "dropped", "silent", "away")
    coded = 'step "code" { run = { agent = "asked" } }'
    write(ward, CODERS, coded=coded, **{name: step(ward, name) for name in names})
    scenario(
        ward,
        {"when": "sing", "do": [{"say": "Once more."}]},
        {"do": [{"say": "Hello from a pod."}]},
    )
    ward.push()
    coder = ward.world.start("coded")
    asked(ward, coder, "Hello from a pod.")
    old = ward.world.start("old")
    until_did(ward, "old began")
    go(ward, *names[1:])

    def runs(name: str) -> str:
        job = ward.world.start(name)
        assert ran(ward.world.finish(job, SECONDS)) == ["work completed"]
        return job

    ward.kube.throttle(2, 2, method="POST", match="/pods")
    throttled = ward.world.start("throttled")
    ward.told(throttled, "the API server asks for a pause")
    assert ran(ward.world.finish(throttled)) == ["work completed"]
    ward.kube.fault("status", status=500, times=3, method="POST")
    assert "the API server failed (status 500)" in ward.world.log(runs("broken"))
    ward.kube.expire()
    runs("expired")
    ward.kube.drop_watches("/pods")
    runs("dropped")

    ward.kube.fault("silent", match="/pods")
    silent = ward.world.start("silent")
    ward.pod_of(silent)
    assert ward.world.show(old)["status"] == "running"
    ward.kube.heal()
    assert ran(ward.world.finish(silent, SECONDS)) == ["work completed"]

    ward.kube.down()
    until(
        lambda: "the API server cannot be asked" in ward.world.oj("daemon", "status").out,
        SECONDS,
        lambda: ward.world.oj("daemon", "status").out,
    )
    away = ward.world.start("away")
    ward.told(away, "the API server did not answer")
    go(ward, "old")  # its pod can be reached without the API server
    until_did(ward, "old went")
    until(lambda: "old went" in ward.world.log(old), SECONDS, lambda: ward.world.log(old))
    ward.world.oj("agent", "send", agents(ward.world, coder)[0]["id"], "Please sing.")
    until(
        lambda: "Once more." in ward.world.oj("peek", coder).out,
        SECONDS,
        lambda: ward.world.oj("peek", coder).out,
    )
    ward.restart()
    assert {ward.world.status(job) for job in (away, coder)} <= {"pending", "running", "waiting"}
    ward.kube.up()
    assert ran(ward.world.finish(away, SECONDS)) == ["work completed"]
    assert ran(ward.world.finish(old)) == ["work completed"]
    answer(ward, coder, "Hello from a pod.", "Done")
    assert ran(ward.world.finish(coder, SECONDS)) == ["code completed"]
    assert len(agents(ward.world, coder)) == 1
    until(
        lambda: "cannot be asked" not in ward.world.oj("daemon", "status").out,
        SECONDS,
        lambda: ward.world.oj("daemon", "status").out,
    )
    ward.until_clean()
    assert did(ward) == {f"{name} {what}": 1 for name in names for what in ("began", "went")}


def test_an_agent_whose_pod_is_lost_does_what_on_dead_says_with_its_conversation(
    ward: Ward,
) -> None:
    step = 'step "code" {{ run = {{ agent = "{}" }} }}'
    names = ("resumed", "asked", "moved")
    write(
        ward,
        CODERS,
        resumed=step.format("resumed"),
        asked=step.format("asked"),
        moved=step.format("asked"),
    )
    scenario(
        ward,
        {"resumed": True, "do": [{"say": "I am back."}]},
        {"when": "sing", "do": [{"say": "Once more."}]},
        {"do": [{"say": "Hello from a pod."}]},
    )
    ward.push()
    jobs = {name: ward.world.start(name) for name in names}
    before = {name: asked(ward, job, "Hello from a pod.")["id"] for name, job in jobs.items()}
    ward.kube.evict(ward.pod_of(jobs["resumed"]))
    ward.kube.oom(ward.pod_of(jobs["asked"]))
    ward.kube.move(ward.pod_of(jobs["moved"]))

    dead = asked(ward, jobs["asked"], "wanted more memory than its limit of 4Gi")
    assert dead["source"] == "dead"
    assert "OJ_K8S_MEMORY_LIMIT=8Gi" in ward.world.oj("decision", "show", dead["id"]).out
    asked(ward, jobs["resumed"], "I am back.")
    (second, first) = agents(ward.world, jobs["resumed"])
    assert second["session_id"] == first["session_id"] != ""
    assert first["exit_reason"].startswith("the pod was evicted: The node was low on resource")
    (moved,) = agents(ward.world, jobs["moved"])
    ward.world.oj("agent", "send", moved["id"], "Please sing.")
    until(
        lambda: "Once more." in ward.world.oj("peek", moved["id"]).out,
        SECONDS,
        lambda: ward.world.oj("peek", moved["id"]).out,
    )
    until(
        lambda: asked(ward, jobs["moved"], "Hello")["id"] != before["moved"],
        SECONDS,
        lambda: ward.world.log(jobs["moved"]),
    )
    assert len(agents(ward.world, jobs["moved"])) == 1

    answer(ward, jobs["resumed"], "I am back.", "Done")
    answer(ward, jobs["moved"], "Hello from a pod.", "Done")
    answer(ward, jobs["asked"], "wanted more memory", "Cancel")
    for name, status in (("resumed", "completed"), ("moved", "completed"), ("asked", "cancelled")):
        assert ward.world.finish(jobs[name], SECONDS)["status"] == status
    ward.until_clean()
