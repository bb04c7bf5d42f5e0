"""The test kubelet itself: pods of the real pod builder run as real processes, and every control does what it says."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from oj_daemon.adapters.kubernetes import pod as builder
from oj_daemon.adapters.kubernetes.diagnose import diagnose_pod
from oj_daemon.adapters.kubernetes.diagnosis import Kind
from oj_daemon.adapters.kubernetes.pod import Clone, KeyOf, PodPlan, Probe, Probes
from oj_daemon.adapters.kubernetes.refusals import diagnose_error
from oj_daemon.adapters.place import PlaceClient
from oj_daemon.errors import AdapterError
from oj_daemon.settings import Secret
from oj_daemon.shell import RunState
from tests.support.kube.container import unsupported
from tests.support.kube.process import Cluster, cluster, is_ready, state
from tests.support.kube.server import TOKEN as TEST_TOKEN
from tests.support.places import NAME, TOKEN, Papers
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(bool(unsupported()), reason=unsupported())

Object = dict[str, Any]
SECONDS = 60.0
RECORDED = Path(__file__).resolve().parents[2] / "data" / "kubernetes" / "recorded"
NO_PROBES = Probes(startup=None, readiness=None, liveness=None)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="oj-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def kube(folder: Path) -> Iterator[Cluster]:
    with cluster(folder, "rec") as made:
        yield made


def plan(**more: Any) -> PodPlan:
    given: dict[str, Any] = {
        "name": NAME, "namespace": "rec", "instance": "i-1", "job_id": "job-1", "image": "registry.example.com/oj:1",
        "args": ("--place", "--session-dir", "/tmp/oj"), "grace_seconds": 15,
    }  # fmt: skip
    return PodPlan(**{**given, **more})


def repository(folder: Path) -> str:
    """A bare repository with one commit; its URL."""
    work, bare = folder / "work", folder / "repo.git"
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com")
    for words in (
        (*git, "init", "-q", "-b", "main", str(work)),
        (*git, "-C", str(work), "commit", "-q", "--allow-empty", "-m", "first"),
        (*git, "clone", "-q", "--bare", str(work), str(bare)),
    ):
        subprocess.run(words, check=True, capture_output=True)
    return f"file://{bare}"


def create(kube: Cluster, papers: Papers, wanted: PodPlan | None = None) -> Object:
    """Secret, pod, and to whom the Secret belongs, as the daemon does it."""
    wanted = wanted or plan()
    certificate = papers.authority.issue_cert(wanted.name)
    secret = builder.build_secret(
        wanted,
        Secret(TOKEN),
        Secret(certificate.private_key_pem.bytes().decode()),
        certificate.cert_chain_pems[0].bytes().decode(),
        papers.ca.read_text(),
    )
    kube.create("secrets", secret)
    pod = kube.create("pods", builder.build(wanted).pod)
    kube.ask("PATCH", kube.path("secrets", wanted.name), builder.owner_of(pod))
    return pod


def client(pod: Object, papers: Papers) -> PlaceClient:
    url = f"https://{pod['status']['podIP']}:8080"
    return PlaceClient(url, Secret(TOKEN), papers.daemon, pod["metadata"]["name"])


async def run(pod: Object, papers: Papers, script: str, run_id: str = "run-1") -> str:
    """What a script says in a place."""
    place = client(pod, papers)
    try:
        await place.start(run_id, script, env={}, cwd="/workspace")
        done = await place.wait(run_id)
        assert done.state is RunState.EXITED, done
        return (await place.output(run_id, 0)).data.decode()
    finally:
        await place.close()


async def test_a_pod_of_the_builder_is_cloned_started_used_and_deleted_without_a_trace(
    kube: Cluster, folder: Path
) -> None:
    papers = Papers(folder / "papers")
    create(
        kube, papers, plan(clone=Clone(url=repository(folder)), env={"GREETING": "cost $5 $(HOME)"})
    )
    pod = kube.until_ready(NAME)
    assert pod["status"]["phase"] == "Running"
    assert state(pod, "clone")["terminated"]["reason"] == "Completed"
    said = await run(
        pod,
        papers,
        'git log --format=%s; echo "$GREETING"; pwd; echo $HOME; touch ~/x /tmp/y; command -v claude oj',
    )
    assert said.splitlines()[:4] == ["first", "cost $5 $(HOME)", "/workspace", "/home/oj"]
    assert len(said.splitlines()) == 6
    pids = kube.pids()[NAME]
    processes = held(pids)
    assert pids
    assert on_machine() == []
    kube.ask("DELETE", kube.path("pods", NAME))
    kube.until_gone(NAME)
    assert kube.list("secrets") == []
    until(lambda: not alive(processes), SECONDS, "its processes are gone")
    until(lambda: list((folder / "node").iterdir()) == [folder / "node" / "claims"], SECONDS, "its files are gone")  # fmt: skip


def on_machine() -> list[str]:
    """What pods have made outside of them."""
    return [path for path in ("/home/oj", "/workspace", "/etc/oj") if os.path.lexists(path)]


def held(pids: Sequence[int]) -> list[psutil.Process]:
    """These processes, whoever gets their numbers later."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def alive(processes: Sequence[psutil.Process]) -> list[int]:
    """Those that have not ended; one that only waits to be collected has."""
    left = []
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                left.append(each.pid)
    return left


def shell(script: str, **more: Any) -> PodPlan:
    """A pod that is no place."""
    return plan(command=("sh", "-c", script), args=(), tls=False, probes=NO_PROBES, **more)


def create_plain(kube: Cluster, wanted: PodPlan) -> Object:
    secret = builder.build_secret(wanted, Secret(TOKEN), Secret(""), "", "")
    kube.create("secrets", secret)
    return kube.create("pods", builder.build(wanted).pod)


def kind(kube: Cluster, pod: Object) -> Kind:
    """What the daemon makes of it."""
    return diagnose_pod(pod, events=kube.list("events")).kind


def refusal(work: Callable[[], object]) -> Object:
    with pytest.raises(urllib.error.HTTPError) as failure:
        work()
    with failure.value:
        found: Object = json.loads(failure.value.read())
    return found


def shape(found: Any) -> Any:
    """What is there, without the values."""
    if isinstance(found, dict):
        return {name: shape(value) for name, value in found.items()}
    if isinstance(found, list):
        return [shape(each) for each in found]
    return type(found).__name__


def without(found: Object, *names: str) -> Object:
    return {name: value for name, value in found.items() if name not in names}


def test_statuses_have_the_shape_of_recorded_ones(kube: Cluster) -> None:
    recorded = {
        name: json.loads((RECORDED / f"pod-{name}.json").read_text())["status"]
        for name in ("running", "err-image-pull", "oom-killed")
    }
    kube.unpullable("oj:1")
    create_plain(kube, shell("sleep 600"))
    found = {
        "err-image-pull": kube.until_pod(
            NAME, lambda pod: state(pod).get("waiting", {}).get("message")
        )
    }
    kube.lift()
    found["running"] = kube.until_ready(NAME)
    made = found["running"]
    kube.oom(NAME)
    kube.until_pod(NAME, lambda pod: pod["status"]["phase"] == "Failed")
    found["oom-killed"] = next(pod for _, pod in kube.history(made) if "terminated" in state(pod))
    for name, pod in found.items():
        # Where memory and mounts have been asked for, there is more in ours or in theirs.
        drop = ("allocatedResources", "containerStatuses", "resources")
        ours, theirs = without(pod["status"], *drop), without(recorded[name], *drop)
        assert shape(ours) == shape(theirs), name
        assert [
            (each["type"], each["status"], each.get("reason")) for each in ours["conditions"]
        ] == [(each["type"], each["status"], each.get("reason")) for each in theirs["conditions"]]
        drop = ("allocatedResources", "resources", "volumeMounts")
        ours, theirs = (
            without(status["containerStatuses"][0], *drop)
            for status in (pod["status"], recorded[name])
        )
        assert shape(ours) == shape(theirs), name


# -- how containers end


@pytest.mark.parametrize(
    ("code", "phase", "word"), [(0, "Succeeded", "Completed"), (3, "Failed", "Error")]
)
def test_a_container_that_ends_is_terminated_before_its_pod_is_over(
    kube: Cluster, code: int, phase: str, word: str
) -> None:
    made = create_plain(kube, shell(f"echo one; echo two; exit {code}"))
    over = kube.until_pod(NAME, lambda pod: pod["status"]["phase"] == phase)
    ended = state(over)["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (code, word)
    seen = [(pod["status"]["phase"], next(iter(state(pod)), "")) for _, pod in kube.history(made)]
    assert list(dict.fromkeys(seen)) == [
        ("Pending", ""), ("Pending", "waiting"), ("Running", "running"), ("Running", "terminated"), (phase, "terminated"),
    ]  # fmt: skip
    assert kube.log(NAME) == "one\ntwo\n"
    assert kube.log(NAME, tail=1) == "two\n"
    assert kind(kube, over) is (Kind.COMPLETED if code == 0 else Kind.CRASHED)


def test_an_init_container_that_fails_ends_the_pod(kube: Cluster, folder: Path) -> None:
    create_plain(kube, shell("sleep 600", clone=Clone(url=f"file://{folder}/absent.git")))
    over = kube.until_pod(NAME, lambda pod: pod["status"]["phase"] == "Failed")
    assert state(over, "clone")["terminated"]["exitCode"] == 128
    assert state(over)["waiting"]["reason"] == "PodInitializing"
    assert "absent.git" in kube.log(NAME, "clone")
    assert kind(kube, over) is Kind.INIT_FAILED
    assert refusal(lambda: kube.log(NAME))["message"] == (
        f'container "agent" in pod "{NAME}" is waiting to start: PodInitializing'
    )


def test_an_image_without_the_program_ends_in_a_start_error(kube: Cluster) -> None:
    kube.broken("oj:1")
    create_plain(kube, shell("exit 0"))
    over = kube.until_pod(NAME, lambda pod: pod["status"]["phase"] == "Failed")
    assert state(over)["terminated"]["reason"] == "StartError"
    assert state(over)["terminated"]["exitCode"] == 128
    assert kind(kube, over) is Kind.CONFIG


def test_what_does_not_listen_to_term_is_killed_after_the_grace(kube: Cluster) -> None:
    made = create_plain(
        kube, shell("trap '' TERM; echo up; while :; do sleep 0.1; done", grace_seconds=1)
    )
    kube.until_pod(
        NAME,
        lambda _: "running" in state(kube.pod(NAME) or {"status": {}}) and "up" in kube.log(NAME),
    )
    pids = kube.pids()[NAME]
    processes = held(pids)
    answer = kube.ask("DELETE", kube.path("pods", NAME))
    assert (answer["kind"], answer["metadata"]["deletionGracePeriodSeconds"]) == ("Pod", 1)
    kube.until_gone(NAME)
    told, last = kube.history(made)[-1]
    assert (told, state(last)["terminated"]["exitCode"]) == ("DELETED", 137)
    until(lambda: not alive(processes), SECONDS, "its processes are gone")


def test_a_container_that_wanted_too_much_memory_is_terminated_while_its_pod_runs(
    kube: Cluster,
) -> None:
    made = create_plain(kube, shell("sleep 600"))
    kube.until_pod(NAME, lambda pod: "running" in state(pod))
    kube.oom(NAME)
    over = kube.until_pod(NAME, lambda pod: pod["status"]["phase"] == "Failed")
    assert kind(kube, over) is Kind.OOM_KILLED
    assert ("Running", "OOMKilled", 137) in [
        (pod["status"]["phase"], ended["reason"], ended["exitCode"])
        for _, pod in kube.history(made)
        if (ended := state(pod).get("terminated"))
    ]


# -- before it runs


def test_an_image_that_cannot_be_pulled_is_tried_again_until_it_can(kube: Cluster) -> None:
    kube.unpullable("oj:1")
    create_plain(kube, shell("sleep 600"))
    first = kube.until_pod(
        NAME, lambda pod: state(pod).get("waiting", {}).get("reason") == "ErrImagePull"
    )
    assert kind(kube, first) is Kind.IMAGE_PULL
    then = kube.until_pod(
        NAME, lambda pod: state(pod).get("waiting", {}).get("reason") == "ImagePullBackOff"
    )
    assert state(then)["waiting"]["message"].startswith(
        'Back-off pulling image "registry.example.com/oj:1": ErrImagePull: '
    )
    assert then["status"]["phase"] == "Pending"
    kube.lift("image")
    kube.until_ready(NAME)


def test_a_pod_that_no_node_takes_waits_until_one_does(kube: Cluster) -> None:
    kube.unschedulable(NAME)
    create_plain(kube, shell("sleep 600"))
    waits = kube.until_pod(NAME, lambda pod: pod["status"].get("conditions"))
    assert kind(kube, waits) is Kind.UNSCHEDULABLE
    assert "nodeName" not in waits["spec"]
    assert waits["status"]["conditions"][0]["message"].startswith(
        "0/1 nodes are available: 1 Insufficient cpu."
    )
    kube.lift()
    kube.until_ready(NAME)


def test_a_gated_pod_waits_until_its_gate_is_opened(kube: Cluster) -> None:
    wanted = shell(
        "sleep 600",
        templates=(("test", {"spec": {"schedulingGates": [{"name": "example.com/gate"}]}}),),
    )
    create_plain(kube, wanted)
    waits = kube.until_pod(NAME, lambda pod: pod["status"].get("conditions"))
    assert kind(kube, waits) is Kind.GATED
    kube.ask("PATCH", kube.path("pods", NAME), {"spec": {"schedulingGates": None}})
    kube.until_ready(NAME)


def test_a_pod_waits_for_its_secrets(kube: Cluster) -> None:
    key = KeyOf("theirs", "K")
    wanted = shell("echo got $VALUE; sleep 600", secret_env={"VALUE": key})
    kube.create("pods", builder.build(wanted).pod)
    until(
        lambda: [each for each in kube.list("events") if each["reason"] == "FailedMount"],
        SECONDS,
        "it is said",
    )
    waits = kube.pod(NAME)
    assert waits is not None
    assert kind(kube, waits) is Kind.CONFIG
    kube.create("secrets", builder.build_secret(wanted, Secret(TOKEN), Secret(""), "", ""))
    waits = kube.until_pod(
        NAME,
        lambda pod: state(pod).get("waiting", {}).get("reason") == "CreateContainerConfigError",
    )
    assert state(waits)["waiting"]["message"] == 'secret "theirs" not found'
    kube.create("secrets", {"metadata": {"name": "theirs"}, "data": {"K": "aXQ="}})
    kube.until_ready(NAME)
    until(lambda: kube.log(NAME) == "got it\n", SECONDS, "it has the value")


def test_a_pod_that_is_held_starts_when_it_is_let_go(kube: Cluster) -> None:
    kube.hold(NAME)
    kube.slow(0.1)
    create_plain(kube, shell("sleep 600"))
    waits = kube.until_pod(NAME, lambda pod: state(pod).get("waiting"))
    assert state(waits)["waiting"] == {"reason": "ContainerCreating"}
    kube.lift("hold")
    kube.until_ready(NAME)


@pytest.mark.parametrize("is_running", [False, True])
def test_an_evicted_pod_has_failed_and_stays_until_it_is_deleted(
    kube: Cluster, *, is_running: bool
) -> None:
    if not is_running:
        kube.hold()
    create_plain(kube, shell("sleep 600"))
    kube.until_pod(NAME, lambda pod: ("running" if is_running else "waiting") in state(pod))
    pids = kube.pids()[NAME]
    processes = held(pids)
    kube.evict(NAME)
    over = kube.until_pod(NAME, lambda pod: pod["status"]["phase"] == "Failed")
    assert over["status"]["reason"] == "Evicted"
    found = diagnose_pod(over, events=kube.list("events"))
    assert (found.kind, found.has_run) == (Kind.EVICTED, is_running)
    assert alive(processes) == []
    kube.ask("DELETE", kube.path("pods", NAME))
    assert kube.pod(NAME) is None


# -- while it runs


def test_the_pod_of_a_lost_node_hangs_until_it_is_deleted_without_grace(kube: Cluster) -> None:
    create_plain(kube, shell("sleep 600"))
    kube.until_ready(NAME)
    pids = kube.pids()[NAME]
    processes = held(pids)
    kube.lose_node(NAME)
    lost = kube.pod(NAME)
    assert lost is not None
    assert "deletionTimestamp" in lost["metadata"]
    assert kind(kube, lost) is Kind.NODE_LOST
    until(lambda: {status_of(pid) for pid in pids} == {"T"}, SECONDS, "all have stopped")
    kube.ask("DELETE", kube.path("pods", NAME), {"gracePeriodSeconds": 0})
    kube.until_gone(NAME)
    until(lambda: not alive(processes), SECONDS, "its processes are gone")


def test_the_pod_of_a_removed_node_fails_and_is_gone(kube: Cluster) -> None:
    made = create_plain(kube, shell("sleep 600"))
    kube.until_ready(NAME)
    kube.remove_node(NAME)
    assert kube.pod(NAME) is None
    told, last = kube.history(made)[-1]
    assert (told, last["status"]["phase"]) == ("DELETED", "Failed")
    assert kind(kube, last) is Kind.NODE_LOST


def test_a_preempted_pod_says_why_and_is_gone(kube: Cluster) -> None:
    made = create_plain(kube, shell("sleep 600", grace_seconds=1))
    kube.until_ready(NAME)
    kube.preempt(NAME)
    kube.until_gone(NAME)
    assert kind(kube, kube.history(made)[-1][1]) is Kind.PREEMPTED


def test_somebody_else_deletes_or_replaces_a_pod(kube: Cluster, folder: Path) -> None:
    papers = Papers(folder / "papers")
    create(kube, papers)
    first = kube.until_ready(NAME)
    kube.recreate(NAME)
    second = kube.until_pod(
        NAME, lambda pod: pod["metadata"]["uid"] != first["metadata"]["uid"] and is_ready(pod)
    )
    assert second["metadata"]["labels"] == first["metadata"]["labels"]
    assert second["status"]["podIP"] != first["status"]["podIP"]
    assert asyncio.run(run(second, papers, "echo here")) == "here\n"
    wrong = {"preconditions": {"uid": first["metadata"]["uid"]}}
    assert (
        refusal(lambda: kube.ask("DELETE", kube.path("pods", NAME), wrong))["reason"] == "Conflict"
    )
    kube.delete(NAME, 0)
    assert kube.pod(NAME) is None
    assert kube.list("secrets") == []


async def test_a_pod_that_moves_answers_at_its_new_address_alone(
    kube: Cluster, folder: Path
) -> None:
    papers = Papers(folder / "papers")
    create(kube, papers)
    before = kube.until_ready(NAME)
    place = client(before, papers)
    boot = (await place.health()).boot
    address = kube.move(NAME)
    after = kube.until_pod(NAME, lambda pod: pod["status"]["podIP"] == address)
    with pytest.raises(AdapterError, match=r"refused|Cannot connect|disconnected"):
        await place.health()
    place.move(f"https://{after['status']['podIP']}:8080")
    assert (await place.health()).boot == boot
    await place.close()


async def test_a_frozen_pod_is_silent_and_a_cut_one_only_loses_its_connections(
    kube: Cluster, folder: Path
) -> None:
    papers = Papers(folder / "papers")
    create(kube, papers)
    pod = kube.until_ready(NAME)
    place = client(pod, papers)
    boot = (await place.health()).boot
    kube.freeze(NAME)
    pids = kube.pids()[NAME]
    until(lambda: {status_of(pid) for pid in pids} == {"T"}, SECONDS, "all have stopped")
    asking = asyncio.ensure_future(place.health())
    done, _ = await asyncio.wait([asking], timeout=0.5)
    assert not done
    kube.thaw(NAME)
    assert (await asking).boot == boot
    reader, writer = await asyncio.open_connection(pod["status"]["podIP"], 8080)
    kube.cut(NAME)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    again = client(pod, papers)
    assert (await again.health()).boot == boot
    await again.close()
    await place.close()


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_container_that_does_not_answer_is_not_ready_and_then_given_up(
    kube: Cluster, folder: Path
) -> None:
    papers = Papers(folder / "papers")
    patient = Probes(startup=None, readiness=Probe(1, 1, timeout=1), liveness=None)
    create(kube, papers, plan(probes=patient))
    create(
        kube,
        papers,
        plan(
            name="oj-job-2",
            job_id="job-2",
            probes=Probes(liveness=Probe(1, 2, timeout=1)),
            grace_seconds=1,
        ),
    )
    kube.until_ready("oj-job-2")
    kube.until_ready(NAME)
    kube.freeze(NAME)
    unready = kube.until_pod(NAME, lambda pod: not is_ready(pod))
    assert (unready["status"]["phase"], kind(kube, unready)) == ("Running", Kind.RUNNING)
    kube.thaw(NAME)
    kube.until_ready(NAME)
    kube.freeze("oj-job-2")
    over = kube.until_pod("oj-job-2", lambda pod: pod["status"]["phase"] == "Failed")
    assert state(over)["terminated"]["exitCode"] == 137
    found = diagnose_pod(over, events=kube.list("events"))
    assert (found.kind, found.reason) == (Kind.CRASHED, "Unhealthy")


def test_a_sidecar_container_runs_beside_the_others_and_ends_with_them(
    kube: Cluster, folder: Path
) -> None:
    proxy = {
        "name": "proxy",
        "image": "proxy:1",
        "restartPolicy": "Always",
        "command": ["sh", "-c", "exec sleep 600"],
    }
    extra = {"spec": {"initContainers": [proxy], "terminationGracePeriodSeconds": 1}}
    create_plain(
        kube, shell(f"until [ -e {folder}/go ]; do sleep 0.05; done", templates=(("test", extra),))
    )
    pod = kube.until_ready(NAME)
    assert "running" in state(pod, "proxy")
    pids = kube.pids()[NAME]
    processes = held(pids)
    (folder / "go").touch()
    over = kube.until_pod(NAME, lambda pod: pod["status"]["phase"] == "Succeeded")
    assert "terminated" in state(over, "proxy")
    assert alive(processes) == []
    kube.ask("DELETE", kube.path("pods", NAME))


# -- the API


def test_a_full_quota_refuses_until_there_is_room(kube: Cluster) -> None:
    kube.quota({"requests.cpu": "1"}, used={"requests.cpu": "100m"})
    refused = refusal(lambda: create_plain(kube, shell("sleep 600", requests={"cpu": "950m"})))
    assert refused["details"] == {"kind": "pods", "name": NAME}
    assert (refused["code"], refused["reason"]) == (403, "Forbidden")
    assert refused["message"] == (
        f'pods "{NAME}" is forbidden: exceeded quota: q, requested: requests.cpu=950m, used: requests.cpu=100m, '
        "limited: requests.cpu=1"
    )
    assert diagnose_error(403, refused).kind is Kind.QUOTA
    kube.lift_quota()
    kube.create("pods", builder.build(shell("sleep 600")).pod)
    kube.until_ready(NAME)


def test_a_quota_that_is_too_small_for_a_pod_says_both_numbers(kube: Cluster) -> None:
    kube.quota({"requests.memory": "1Gi", "pods": "5"})
    wanted = shell("exit 0", requests={"memory": "3Gi"})
    refused = refusal(lambda: kube.create("pods", builder.build(wanted).pod))
    assert refused["message"].endswith(
        "requested: requests.memory=3Gi, used: requests.memory=0, limited: requests.memory=1Gi"
    )


def test_requests_are_forbidden_throttled_and_refused_on_demand(kube: Cluster) -> None:
    wanted = shell("exit 0")
    secret = builder.build_secret(wanted, Secret(TOKEN), Secret(""), "", "")
    kube.forbid("POST", "/secrets")
    refused = refusal(lambda: kube.create("secrets", secret))
    assert refused["message"] == (
        'secrets is forbidden: User "system:serviceaccount:rec:oj-daemon" cannot create resource "secrets" in API group "" '
        'in the namespace "rec"'
    )
    kube.heal()
    kube.throttle(times=1, seconds=7)
    with pytest.raises(urllib.error.HTTPError) as failure:
        kube.list("pods")
    with failure.value:
        assert (failure.value.code, failure.value.headers["Retry-After"]) == (429, "7")
    kube.fault("status", status=500, times=1, match="/pods")
    assert refusal(lambda: kube.list("pods"))["reason"] == "InternalError"
    assert kube.list("pods") == []
    kube.create("secrets", secret)
    assert refusal(lambda: kube.create("secrets", secret))["reason"] == "AlreadyExists"


def test_a_server_that_is_down_refuses_connections_until_it_is_up(kube: Cluster) -> None:
    create_plain(kube, shell("sleep 600"))
    kube.until_ready(NAME)
    kube.down()
    with pytest.raises(urllib.error.URLError, match="refused"):
        kube.list("pods")
    kube.up()
    assert is_ready(kube.list("pods")[0])


def test_requests_are_counted_by_what_they_ask_for(kube: Cluster) -> None:
    kube.forget_requests()
    made = create_plain(kube, shell("exit 0"))
    kube.until_pod(NAME, lambda pod: pod["status"]["phase"] == "Succeeded")
    kube.log(NAME)
    kube.history(made)
    counts = kube.counts()
    assert counts["GET pods"] >= 1
    del counts["GET pods"]
    assert counts == {"POST secrets": 1, "POST pods": 1, "GET pods/NAME/log": 1, "WATCH pods": 1}


class Watch:
    """A watch of pods that is read line by line."""

    def __init__(self, kube: Cluster) -> None:
        version = kube.ask("GET", kube.path("pods"))["metadata"]["resourceVersion"]
        address = urllib.parse.urlsplit(kube.url)
        self._connection = http.client.HTTPConnection(
            str(address.hostname), address.port, timeout=SECONDS
        )
        path = f"{kube.path('pods')}?watch=1&resourceVersion={version}"
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {TEST_TOKEN}"})
        self._reply = self._connection.getresponse()

    def line(self) -> Object:
        """The next line, empty at the end."""
        return json.loads(self._reply.readline() or "{}")  # type: ignore[no-any-return]

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def test_a_silent_watch_says_later_what_happened(kube: Cluster) -> None:
    kube.unschedulable()
    with Watch(kube) as watch:
        kube.fault("silent", match="/pods")
        create_plain(kube, shell("exit 0"))
        kube.until_pod(NAME, lambda pod: pod["status"].get("conditions"))
        heard: list[Object] = []
        reading = threading.Thread(target=lambda: heard.append(watch.line()), daemon=True)
        reading.start()
        reading.join(0.3)
        assert heard == []
        kube.heal()
        reading.join(SECONDS)
        assert heard[0]["type"] == "ADDED"


def test_watches_are_dropped_and_told_that_they_are_too_old(kube: Cluster) -> None:
    with Watch(kube) as dropped:
        kube.drop_watches()
        with contextlib.suppress(ConnectionError, http.client.IncompleteRead):
            assert dropped.line() == {}
    version = kube.ask("GET", kube.path("pods"))["metadata"]["resourceVersion"]
    with Watch(kube) as told:
        kube.create("secrets", {"metadata": {"name": "new"}})
        kube.expire()
        line = told.line()
        assert (line["type"], line["object"]["code"], line["object"]["reason"]) == (
            "ERROR",
            410,
            "Expired",
        )
        assert told.line() == {}
    (late,) = kube.history({"metadata": {"resourceVersion": version}})
    assert late[0] == "ERROR"


# -- nothing is left


@pytest.mark.parametrize("is_killed", [False, True])
def test_all_pods_end_with_the_process_of_the_kubelet_however_it_ends(
    folder: Path, *, is_killed: bool
) -> None:
    kube = Cluster(folder, "rec")
    try:
        create_plain(
            kube,
            shell(
                "setsid sleep 600 & setsid sh -c 'trap \"\" TERM HUP; sleep 600' & echo up; sleep 600"
            ),
        )
        kube.until_pod(NAME, lambda pod: "running" in state(pod) and "up" in kube.log(NAME))
        pids = kube.pids()[NAME]
        processes = held(pids)
        assert len(pids) >= 4
        mounts = Path("/proc/self/mounts").read_text()
        assert str(folder) not in mounts
        if is_killed:
            os.kill(kube.pid, signal.SIGKILL)
    finally:
        kube.close()
    until(lambda: not alive(processes), SECONDS, lambda: f"{alive(processes)} are gone")
    assert not (folder / "node").exists()
