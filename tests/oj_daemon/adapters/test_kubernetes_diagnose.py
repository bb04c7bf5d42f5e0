"""Tests of oj_daemon/adapters/kubernetes/{diagnose,refusals}.py: what a real API server said, and what people are told."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.adapters.kubernetes.diagnose import diagnose_missing, diagnose_pod, read_line
from oj_daemon.adapters.kubernetes.diagnosis import INFRA, Diagnosis, Kind
from oj_daemon.adapters.kubernetes.refusals import diagnose_error

RECORDED = Path(__file__).resolve().parents[3] / "tests" / "data" / "kubernetes" / "recorded"
FLAGS = ("infra", "waiting", "final", "hopeless")


class Row(NamedTuple):
    """What is expected of one diagnosis; `flags` are the names of all that are set, `ran` for has_run."""

    kind: Kind
    flags: str
    reason: str = ""
    container: str = ""
    exit_code: int | None = None
    says: str = ""
    advice: str = ""
    ends_at: str = ""
    relist: bool = False


BOOKMARK = None

PODS: dict[str, Row] = {
    "pod-active-deadline": Row(
        Kind.DEADLINE, "final ran", "DeadlineExceeded", "agent", 137,
        "the pod may run for 3 seconds and took longer: Pod was active on the node longer", "activeDeadlineSeconds",
    ),
    "pod-command-not-found": Row(
        Kind.CONFIG, "final", "StartError", "agent", 128,
        'could not be started: failed to create containerd task: .* exec: "/nosuch": stat /nosuch: no such file', "oj-sidecar",
    ),
    "pod-config-error-secret": Row(
        Kind.CONFIG, "waiting", "CreateContainerConfigError", "agent", None,
        'the container agent cannot be made: secret "absent" not found', "make the secret absent",
    ),
    "pod-delete-answer": Row(
        Kind.DELETED, "infra waiting ran", says="the pod is being deleted while its agent runs", advice="oj job resume",
        ends_at="2026-11-23T16:40:15Z",
    ),
    "pod-err-image-never-pull": Row(
        Kind.IMAGE_PULL, "hopeless", "ErrImageNeverPull", "agent", None,
        'the image localhost/nosuch:1 .* cannot be had: Container image "localhost/nosuch:1" is not present', "imagePullPolicy",
    ),
    "pod-err-image-pull": Row(
        Kind.IMAGE_PULL, "waiting", "ErrImagePull", "agent", None,
        "the image 127.0.0.1:1/nosuch:1 .*: connection refused", "reach its registry",
    ),
    "pod-evicted-storage": Row(
        Kind.EVICTED, "infra final ran", "Evicted", "agent", 137,
        "the pod was evicted: Pod ephemeral local storage usage exceeds the total limit of containers 20Mi.",
        "OJ_K8S_EPHEMERAL_LIMIT",
    ),
    "pod-exit-0": Row(Kind.COMPLETED, "final ran", "Completed", "agent", 0, "without an error"),
    "pod-exit-3": Row(Kind.CRASHED, "final ran", "Error", "agent", 3, "ended with exit code 3", "oj agent logs"),
    "pod-image-pull-backoff": Row(
        Kind.IMAGE_PULL, "waiting", "ImagePullBackOff", "agent", None, "Back-off pulling image", "reach its registry",
    ),
    "pod-init-failed": Row(
        Kind.INIT_FAILED, "final", "Error", "clone", 128, "the init container clone ended with exit code 128", "git push",
    ),
    "pod-invalid-image-name": Row(
        Kind.IMAGE_PULL, "hopeless", "InvalidImageName", "agent", None, "couldn't parse image name", "correct container",
    ),
    "pod-mount-secret-missing": Row(
        Kind.CONFIG, "waiting", "FailedMount", "", None,
        'a volume of the pod cannot be mounted: MountVolume.SetUp failed for volume "s" : secret "absent" not found',
        "make the secret absent",
    ),
    "pod-oom-killed": Row(
        Kind.OOM_KILLED, "final ran", "OOMKilled", "agent", 137, "more memory than its limit of 24Mi", 'memory = "48Mi"',
    ),
    "pod-run-as-root-refused": Row(
        Kind.CONFIG, "hopeless", "CreateContainerConfigError", "agent", None, "image will run as root", "USER 65532",
    ),
    "pod-running": Row(Kind.RUNNING, "ran", says="the place is ready"),
    "pod-scheduling-gated": Row(
        Kind.GATED, "waiting", "SchedulingGated", says=r"gate is opened \(kueue.x-k8s.io/admission\)", advice="Kueue",
    ),
    "pod-terminating": Row(
        Kind.DELETED, "infra waiting ran", says="the pod is being deleted while its agent runs", advice="oj job resume",
        ends_at="2026-11-23T16:40:15Z",
    ),
    "pod-unschedulable-cpu": Row(
        Kind.UNSCHEDULABLE, "waiting", "Unschedulable",
        says=r"no node takes the pod: 0/1 nodes are available: 1 Insufficient cpu\. no new claims", advice="ask for less cpu",
    ),
    "pod-unschedulable-selector": Row(
        Kind.UNSCHEDULABLE, "waiting", "Unschedulable",
        says=r"1 node\(s\) didn't match Pod's node affinity/selector", advice="nodeSelector",
    ),
}  # fmt: skip

ERRORS: dict[str, Row] = {
    "error-403-pod-security-restricted": Row(
        Kind.FORBIDDEN, "final", "Forbidden", says="does not take such a pod: .*violates PodSecurity", advice="webhooks",
    ),
    "error-403-quota-exceeded": Row(
        Kind.QUOTA, "waiting", "Forbidden", says=r"the quota q is full \(requests.cpu: 900m requested, 100 of 1 used\)",
        advice="wait",
    ),
    "error-403-quota-needs-requests": Row(
        Kind.QUOTA, "final", "Forbidden", says="must specify requests.cpu", advice="set requests.cpu in",
    ),
    "error-403-quota-never-enough": Row(
        Kind.QUOTA, "final", "Forbidden", says="never allows as much: requests.cpu of 5 of at most 1", advice="ask for less",
    ),
    "error-404-no-namespace": Row(Kind.NO_NAMESPACE, "final", "NotFound", says='"absent"', advice="OJ_K8S_NAMESPACE"),
    "error-404-not-found": Row(Kind.NOT_FOUND, "final", "NotFound", says="the pod absent is not there"),
    "error-409-already-exists": Row(
        Kind.ALREADY_EXISTS, "final", "AlreadyExists", says="the pod exit0 exists already", advice="delete it",
    ),
    "error-409-conflict": Row(Kind.CONFLICT, "waiting", "Conflict", says="somebody else wrote at the same moment"),
    "error-422-invalid-name": Row(Kind.INVALID, "final", "Invalid", says='Invalid value: "Bad_Name"', advice="correct"),
    "error-422-request-above-limit": Row(
        Kind.INVALID, "final", "Invalid", says="less than or equal to cpu limit of 1", advice="container",
    ),
    "error-create-with-resource-version": Row(
        Kind.SERVER_ERROR, "waiting", says=r"\(status 500\): resourceVersion should not be set", advice="asks again",
    ),
}  # fmt: skip

STARTING = Row(Kind.STARTING, "waiting", says="the pod starts on its node")
RUNNING = Row(Kind.RUNNING, "ran", says="the place is ready")
CRASHED = Row(
    Kind.CRASHED, "final ran", "Error", "agent", 7, "ended with exit code 7", "oj agent logs"
)
PREEMPTED = Row(
    Kind.PREEMPTED, "infra waiting ran", "PreemptionByScheduler",
    says="make room for one of higher priority: default-scheduler: preempting", advice="priorityClassName",
)  # fmt: skip
LEAVING = PREEMPTED._replace(ends_at="2026-11-23T16:40:40Z")
LEFT = PREEMPTED._replace(flags="infra final ran", container="agent", exit_code=137)
WATCHES: dict[str, list[Row | None]] = {
    "watch-pod-life": [
        STARTING._replace(says="the pod waits for a node"), STARTING, STARTING, STARTING, RUNNING,
        CRASHED, CRASHED, CRASHED, CRASHED, CRASHED, BOOKMARK,
    ],
    "watch-pod-preempted": [RUNNING, PREEMPTED, LEAVING, LEAVING, LEFT, LEFT, LEFT],
    "watch-expired-resource-version": [
        Row(Kind.EXPIRED, "waiting", "Expired", says=r"too old resource version: 1 \(1939\)", relist=True),
    ],
    "watch-initial-events-bookmark": [
        Row(Kind.SERVER_ERROR, "waiting", says="an error that says nothing", advice="lists all", relist=True),
    ],
}  # fmt: skip


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


def events() -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = recorded("events-list")["items"]
    return items


def compare(said: Diagnosis, row: Row) -> None:
    flags = [flag for flag in FLAGS if getattr(said, f"is_{flag}")] + ["ran"] * said.has_run
    assert " ".join(flags) == row.flags, said
    shown = (said.kind, said.reason, said.container, said.exit_code, said.ends_at)
    assert shown == (row.kind, row.reason, row.container, row.exit_code, row.ends_at)
    assert re.search(row.says, said.message), said.message
    assert row.advice in said.advice
    assert bool(row.advice) == bool(said.advice)


# -- what was recorded ----------------------------------------------------------------------------------------------------


def test_each_recorded_pod_error_and_watch_has_its_row() -> None:
    found = {path.stem for kind in ("pod", "error", "watch") for path in RECORDED.glob(f"{kind}-*.json")}  # fmt: skip
    assert found == {*PODS, *ERRORS, *WATCHES, "pod-list-metadata"}
    assert recorded("pod-list-metadata")["kind"] == "PodList"  # no pod, only the version of a list


@pytest.mark.parametrize("name", PODS)
def test_a_recorded_pod_is_diagnosed(name: str) -> None:
    compare(diagnose_pod(recorded(name), events=events()), PODS[name])


@pytest.mark.parametrize("name", ERRORS)
def test_a_recorded_error_is_diagnosed(name: str) -> None:
    body = recorded(name)
    compare(diagnose_error(body["code"], body), ERRORS[name])


@pytest.mark.parametrize("name", WATCHES)
def test_a_recorded_watch_is_diagnosed_line_by_line(name: str) -> None:
    before: dict[str, Diagnosis] = {}
    lines = recorded(name)
    assert len(lines) == len(WATCHES[name])
    for line, row in zip(lines, WATCHES[name], strict=True):
        read = read_line(line, before)
        if row is None:
            assert line["type"] == "BOOKMARK"
            assert (read.diagnosis, read.must_relist) == (None, False)
            assert read.version == line["object"]["metadata"]["resourceVersion"]
            continue
        assert read.diagnosis is not None
        compare(read.diagnosis, row)
        assert read.must_relist == row.relist
        assert read.is_gone == (line["type"] == "DELETED")
        if not row.relist:
            metadata = line["object"]["metadata"]
            assert (read.uid, read.name, read.version, read.pod) == (
                metadata["uid"], metadata["name"], metadata["resourceVersion"], line["object"],
            )  # fmt: skip
            before[read.uid] = read.diagnosis


def test_without_events_a_missing_mount_is_only_a_pod_that_starts() -> None:
    said = diagnose_pod(recorded("pod-mount-secret-missing"))
    assert (said.kind, said.is_waiting) == (Kind.STARTING, True)


def test_the_log_tail_stays_with_the_diagnosis() -> None:
    said = diagnose_pod(recorded("pod-exit-3"), log_tail="panic: at the disco")
    assert said.log_tail == "panic: at the disco"
    again = diagnose_pod(recorded("pod-exit-3"), before=said)
    assert again.log_tail == "panic: at the disco"


# -- what was not recorded: the shapes are those above, changed in one place ------------------------------------------------


def pod(name: str = "pod-running", **status: Any) -> dict[str, Any]:
    thing: dict[str, Any] = copy.deepcopy(recorded(name))
    thing["status"].update(status)
    return thing


def ended(thing: dict[str, Any], code: int, at: str = "2026-11-23T16:39:30Z", reason: str = "Error") -> dict[str, Any]:  # fmt: skip
    thing["status"]["containerStatuses"][0]["state"] = {
        "terminated": {"exitCode": code, "reason": reason, "startedAt": "2026-11-23T16:39:08Z", "finishedAt": at},
    }  # fmt: skip
    return thing


def disrupted(thing: dict[str, Any], reason: str, kind: str = "DisruptionTarget") -> dict[str, Any]:
    thing["status"]["conditions"].append(
        {"type": kind, "status": "True", "reason": reason, "message": "by the cluster",
         "lastTransitionTime": "2026-11-23T16:39:20Z"},
    )  # fmt: skip
    return thing


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("PreemptionByScheduler", Kind.PREEMPTED),
        ("EvictionByEvictionAPI", Kind.EVICTED),
        ("DeletionByTaintManager", Kind.NODE_LOST),
        ("DeletionByPodGC", Kind.NODE_LOST),
        ("TerminationByKubelet", Kind.NODE_LOST),
        ("SomethingNew", Kind.EVICTED),
    ],
)
def test_a_disruption_is_the_cluster_s_doing(reason: str, kind: Kind) -> None:
    said = diagnose_pod(disrupted(pod(), reason))
    assert (said.kind, said.is_infra, said.is_final, said.has_run) == (kind, True, False, True)
    assert "by the cluster" in said.message
    said = diagnose_pod(ended(disrupted(pod(), reason), 143))
    assert (said.kind, said.is_infra, said.is_final, said.exit_code) == (kind, True, True, 143)


def test_a_disruption_that_came_after_the_end_is_not_its_cause() -> None:
    said = diagnose_pod(ended(disrupted(pod(), "EvictionByEvictionAPI"), 3, "2026-11-23T16:39:10Z"))
    assert (said.kind, said.exit_code, said.is_infra) == (Kind.CRASHED, 3, False)


def test_a_disruption_that_was_called_off_is_forgotten() -> None:
    before = diagnose_pod(disrupted(pod(), "PreemptionByScheduler"))
    said = diagnose_pod(pod(), before=before)
    assert (said.kind, said.is_infra) == (Kind.RUNNING, False)


def test_a_pod_that_kueue_stops_was_preempted() -> None:
    said = diagnose_pod(disrupted(pod(), "WorkloadEvictedDueToPreempted", "TerminationTarget"))
    assert (said.kind, said.reason) == (Kind.PREEMPTED, "WorkloadEvictedDueToPreempted")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Evicted", Kind.EVICTED),
        ("Preempting", Kind.PREEMPTED),
        ("NodeLost", Kind.NODE_LOST),
        ("NodeShutdown", Kind.NODE_LOST),
        ("Terminated", Kind.NODE_LOST),
        ("OutOfcpu", Kind.ADMISSION),
        ("UnexpectedAdmissionError", Kind.ADMISSION),
        ("NodeAffinity", Kind.ADMISSION),
        ("DeadlineExceeded", Kind.DEADLINE),
        ("Whatever", Kind.CRASHED),
    ],
)
def test_a_pod_that_failed_before_it_began_says_why(reason: str, kind: Kind) -> None:
    thing = pod("pod-unschedulable-cpu", phase="Failed", reason=reason, message="as it came")
    said = diagnose_pod(thing)
    assert (said.kind, said.is_infra, said.is_final) == (kind, kind in INFRA, True)
    assert "as it came" in said.message
    assert not said.has_run  # so it may simply be made again


def test_a_phase_of_unknown_is_a_lost_node_that_may_come_back() -> None:
    said = diagnose_pod(pod(phase="Unknown"))
    assert (said.kind, said.is_final, said.has_run) == (Kind.NODE_LOST, False, True)
    assert diagnose_pod(pod(), before=said).kind is Kind.RUNNING


def test_a_container_that_nobody_can_find_was_lost_with_its_node() -> None:
    thing = ended(pod(), 137, reason="ContainerStatusUnknown")
    thing["status"]["containerStatuses"][0]["state"]["terminated"] |= {"startedAt": None, "finishedAt": None}  # fmt: skip
    said = diagnose_pod(thing)
    assert (said.kind, said.is_infra, said.is_final, said.has_run) == (Kind.NODE_LOST, True, True, True)  # fmt: skip


def test_death_is_told_by_the_container_though_the_phase_says_running() -> None:
    thing = recorded("pod-oom-killed")
    assert thing["status"]["phase"] == "Running"
    assert diagnose_pod(thing).is_final


def test_the_end_of_another_container_is_not_the_end_of_the_place() -> None:
    thing = pod()
    other = copy.deepcopy(thing["status"]["containerStatuses"][0]) | {"name": "proxy"}
    thing["status"]["containerStatuses"].insert(0, other)
    other["state"] = {"terminated": {"exitCode": 1, "reason": "Error"}}
    assert diagnose_pod(thing).kind is Kind.RUNNING


def test_memory_that_ran_out_is_no_eviction() -> None:
    said = diagnose_pod(ended(disrupted(pod(), "TerminationByKubelet"), 137, reason="OOMKilled"))
    assert (said.kind, said.is_infra) == (Kind.OOM_KILLED, False)


def deleting(thing: dict[str, Any], at: str, grace: int) -> dict[str, Any]:
    thing["metadata"] |= {"deletionTimestamp": at, "deletionGracePeriodSeconds": grace}
    return thing


def test_an_agent_that_was_ended_by_a_deletion_was_deleted() -> None:
    thing = deleting(ended(pod(), 0, "2026-11-23T16:39:32Z"), "2026-11-23T16:40:00Z", 30)
    said = diagnose_pod(thing)
    assert (said.kind, said.is_infra, said.is_final) == (Kind.DELETED, True, True)
    assert said.message == "the pod was deleted while its agent ran"


def test_an_agent_that_had_ended_before_its_pod_was_deleted_has_its_own_cause() -> None:
    thing = deleting(ended(pod(), 137, "2026-11-23T16:39:12Z"), "2026-11-23T16:40:00Z", 30)
    assert diagnose_pod(thing).kind is Kind.CRASHED
    thing = deleting(ended(pod(), 7, "2026-11-23T16:39:12Z"), "2026-11-23T16:40:00Z", 0)
    assert diagnose_pod(thing).kind is Kind.CRASHED


@pytest.mark.parametrize("code", [137, 143])
def test_an_agent_that_was_killed_in_a_pod_that_is_on_its_way_out_was_deleted(code: int) -> None:
    # The kubelet has asked for the deletion again, without any grace, so the time of the first request is not known.
    thing = deleting(ended(pod(), code, "2026-11-23T16:39:30Z"), "2026-11-23T16:39:35Z", 0)
    assert diagnose_pod(thing).kind is Kind.DELETED


def test_the_first_cause_of_death_stays_the_cause() -> None:
    going = diagnose_pod(deleting(pod(), "2026-11-23T16:40:00Z", 30))
    assert (going.kind, going.is_final) == (Kind.DELETED, False)
    # The kubelet has ended it, and asks for the deletion again without any grace: from this object alone nobody could tell.
    thing = deleting(ended(pod(), 0), "2026-11-23T16:39:35Z", 0)
    gone = diagnose_pod(thing, before=going)
    assert (gone.kind, gone.is_final, gone.exit_code) == (Kind.DELETED, True, 0)
    assert gone.message == "the pod was deleted while its agent ran"
    assert diagnose_pod(thing).kind is Kind.COMPLETED

    crashed = diagnose_pod(ended(pod(), 7))
    assert diagnose_pod(thing, before=crashed, is_gone=True) == crashed


@pytest.mark.parametrize(("name", "has_run"), [("pod-running", True), ("pod-err-image-pull", False)])  # fmt: skip
def test_a_pod_that_vanishes_without_a_word_was_deleted(name: str, has_run: bool) -> None:
    said = read_line({"type": "DELETED", "object": recorded(name)}).diagnosis
    assert said is not None
    assert (said.kind, said.is_infra, said.is_final) == (Kind.DELETED, True, True)
    assert said.has_run == has_run


def test_a_preempted_pod_that_vanishes_stays_preempted() -> None:
    line = recorded("watch-pod-preempted")[2] | {"type": "DELETED"}
    said = read_line(line).diagnosis
    assert said is not None
    assert (said.kind, said.is_final, said.ends_at) == (Kind.PREEMPTED, True, "")


def test_a_pod_that_is_not_there_when_it_is_looked_for_is_gone() -> None:
    said = diagnose_missing("oj-job-1")
    assert (said.kind, said.is_infra, said.is_final, said.has_run) == (Kind.DELETED, True, True, False)  # fmt: skip
    running = diagnose_pod(pod())
    assert diagnose_missing("oj-job-1", running).has_run
    crashed = diagnose_pod(ended(pod(), 7))
    assert diagnose_missing("oj-job-1", crashed) == crashed
    lost = diagnose_missing("oj-job-1", diagnose_pod(disrupted(pod(), "DeletionByTaintManager")))
    assert (lost.kind, lost.is_final) == (Kind.NODE_LOST, True)


def test_a_sidecar_that_did_not_answer_is_said_to_be_so() -> None:
    thing = ended(pod(), 137)
    about = {"involvedObject": {"name": "running"}, "lastTimestamp": "2026-11-23T16:39:30Z"}
    told = [
        {**about, "type": "Warning", "reason": "Unhealthy", "message": "Liveness probe failed: timeout"},
        {**about, "type": "Normal", "reason": "Killing", "message": "Container agent failed liveness probe"},
    ]  # fmt: skip
    said = diagnose_pod(thing, events=told)
    assert (said.kind, said.reason) == (Kind.CRASHED, "Unhealthy")
    assert "did not answer: Liveness probe failed: timeout" in said.message
    assert diagnose_pod(thing, events=told[:1]).reason == "Error"  # one missed probe ends nothing
    stopped = told[1] | {"message": "Stopping container agent"}
    assert diagnose_pod(thing, events=[told[0], stopped]).reason == "Error"


def test_events_of_another_pod_of_the_same_name_do_not_count() -> None:
    thing = recorded("pod-mount-secret-missing")
    stale = [{**each, "involvedObject": {**each["involvedObject"], "uid": "older"}} for each in events()]  # fmt: skip
    assert diagnose_pod(thing, events=stale).kind is Kind.STARTING


def test_a_mount_that_failed_at_first_is_forgotten_once_something_runs() -> None:
    thing = recorded("pod-mount-secret-missing")
    thing["status"]["initContainerStatuses"] = [
        {"name": "clone", "ready": False, "state": {"running": {"startedAt": "2026-11-23T16:39:50Z"}}}
    ]  # fmt: skip
    said = diagnose_pod(thing, events=events())
    assert (said.kind, said.message) == (Kind.STARTING, "the init container clone runs")


def test_an_init_container_that_wanted_too_much_memory_says_so() -> None:
    thing = recorded("pod-init-failed")
    thing["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"] = "OOMKilled"
    thing["spec"]["initContainers"][0]["resources"] = {"limits": {"memory": "64Mi"}}
    said = diagnose_pod(thing)
    assert (said.kind, said.reason) == (Kind.INIT_FAILED, "OOMKilled")
    assert "its limit of 64Mi" in said.message
    assert '"128Mi"' in said.advice


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("https://git.example.com/a", "OJ_K8S_GIT_SECRET"),
        ("http://git.example.com/a", "OJ_K8S_GIT_SECRET"),
        ("ssh://git@git.example.com/a", "OJ_K8S_SSH_SECRET"),
    ],
)
def test_a_clone_that_failed_names_what_it_could_have_proved_itself_with(
    url: str, secret: str
) -> None:
    thing = recorded("pod-init-failed")
    thing["spec"]["initContainers"][0]["command"] = ["git", "clone", "--", url, "/workspace"]
    said = diagnose_pod(thing)
    assert {"OJ_K8S_GIT_SECRET", "OJ_K8S_SSH_SECRET"} & set(
        said.advice.replace("(", " ").replace(")", " ").split()
    ) == {secret}


def test_a_proxy_among_the_init_containers_may_fail_and_be_started_again() -> None:
    thing = recorded("pod-init-failed")
    thing["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    thing["status"]["phase"] = "Pending"
    assert diagnose_pod(thing).kind is Kind.STARTING


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("pull access denied, repository does not exist", "imagePullSecrets"),
        ("failed to authorize: 401 Unauthorized", "imagePullSecrets"),
        ("manifest unknown: not found", "push the image"),
    ],
)
def test_a_registry_that_refuses_says_what_is_missing(text: str, advice: str) -> None:
    thing = pod("pod-err-image-pull")
    thing["status"]["containerStatuses"][0]["state"]["waiting"]["message"] = text
    assert advice in diagnose_pod(thing).advice


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("0/3 nodes are available: 3 Insufficient memory.", "ask for less memory"),
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "ask for less nvidia.com/gpu"),
        ("0/3 nodes are available: 3 node(s) had untolerated taint {a: b}.", "toleration"),
        ("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims volume", "claim"),
        ("something new", "add nodes"),
    ],
)  # fmt: skip
def test_what_a_scheduler_says_comes_verbatim_with_what_to_do(text: str, advice: str) -> None:
    thing = pod("pod-unschedulable-cpu")
    thing["status"]["conditions"][0]["message"] = text
    said = diagnose_pod(thing)
    assert said.message == f"no node takes the pod: {text}"
    assert advice in said.advice


# -- refused requests that were not recorded ---------------------------------------------------------------------------------


def refusal(code: int, message: str, reason: str = "Forbidden", **details: Any) -> Diagnosis:
    body = {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
    return diagnose_error(code, {**body, "details": details})


def test_a_quota_of_several_resources_tells_the_one_that_never_fits() -> None:
    said = refusal(
        403,
        'pods "x" is forbidden: exceeded quota: team, requested: limits.memory=64Gi,requests.cpu=250m,'
        " used: limits.memory=4Gi,requests.cpu=1, limited: limits.memory=32Gi,requests.cpu=2",
    )
    assert (said.kind, said.is_final) == (Kind.QUOTA, True)
    assert "limits.memory of 64Gi of at most 32Gi" in said.message
    assert said.advice.startswith('ask for less: container { limits = { "memory" = ... } }')


def test_a_quota_of_pods_is_full_for_now() -> None:
    said = refusal(403, "exceeded quota: team, requested: pods=1, used: pods=10, limited: pods=10")
    assert (said.kind, said.is_waiting, said.is_final) == (Kind.QUOTA, True, False)
    assert "pods: 1 requested, 10 of 10 used" in said.message


def test_a_quota_in_words_that_nobody_knows_is_waited_for() -> None:
    said = refusal(403, "exceeded quota: q, requested: pods=many, used: pods=9, limited: pods=few")
    assert (said.kind, said.is_waiting) == (Kind.QUOTA, True)


def test_a_missing_right_names_what_grants_it() -> None:
    said = refusal(403, 'secrets is forbidden: User "oj" cannot create resource "secrets" in API group ""')  # fmt: skip
    assert (said.kind, said.is_final) == (Kind.FORBIDDEN, True)
    assert "oj daemon manifest" in said.advice


def test_a_namespace_that_is_being_deleted_takes_nothing() -> None:
    said = refusal(403, "unable to create new content", causes=[{"reason": "NamespaceTerminating"}])
    assert (said.kind, said.is_final) == (Kind.NO_NAMESPACE, True)


def test_a_webhook_that_refuses_is_a_rule_of_the_cluster() -> None:
    said = refusal(403, 'admission webhook "policy.example" denied the request: no')
    assert (said.kind, said.is_final) == (Kind.FORBIDDEN, True)
    assert "a rule of the cluster" in said.message


def test_a_throttled_request_says_for_how_long() -> None:
    assert refusal(429, "slow down", "TooManyRequests", retryAfterSeconds=2).retry_after_ms == 2000
    said = diagnose_error(429, "", retry_after="7")
    assert (said.kind, said.is_waiting, said.retry_after_ms) == (Kind.THROTTLED, True, 7000)
    assert diagnose_error(429, "", retry_after="Fri, 01 Jan 2027").retry_after_ms is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "is_final"),
    [
        (0, "", Kind.SERVER_ERROR, False),
        (500, None, Kind.SERVER_ERROR, False),
        (502, b"<html>\n<h1>Bad gateway</h1>", Kind.SERVER_ERROR, False),
        (503, [], Kind.SERVER_ERROR, False),
        (401, {"message": "Unauthorized"}, Kind.UNAUTHORIZED, True),
        (400, {"message": "strict decoding error"}, Kind.INVALID, True),
        (404, "page not found", Kind.NOT_FOUND, True),
        (410, {}, Kind.EXPIRED, False),
        (413, "too large", Kind.INVALID, True),
        (409, {"reason": "Conflict"}, Kind.CONFLICT, False),
    ],
)
def test_an_answer_of_any_shape_is_a_diagnosis(
    status: int, body: object, kind: Kind, is_final: bool
) -> None:
    said = diagnose_error(status, body)
    assert (said.kind, said.is_final, said.is_waiting) == (kind, is_final, not is_final)
    assert said.message


# -- lines of a watch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    ['{"type": "ADDED", "obj', None, [], {}, {"type": "ADDED"}, {"type": "NEW", "object": {}}, {"type": "ERROR", "object": {}}],
)  # fmt: skip
def test_a_line_that_makes_no_sense_ends_the_watch(line: object) -> None:
    read = read_line(line)
    assert read.must_relist
    assert read.diagnosis is not None
    assert read.diagnosis.kind is Kind.SERVER_ERROR


def test_a_server_that_forbids_in_the_middle_of_a_watch_is_understood() -> None:
    read = read_line({"type": "ERROR", "object": recorded("error-404-no-namespace")})
    assert read.must_relist
    assert read.diagnosis is not None
    assert read.diagnosis.kind is Kind.NO_NAMESPACE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.sampled_from(sorted(PODS)), st.data())
def test_a_pod_of_which_parts_are_missing_still_gets_a_diagnosis(name: str, data: st.DataObject) -> None:  # fmt: skip
    thing = recorded(name)
    for _ in range(data.draw(st.integers(1, 6))):
        part: Any = thing
        while isinstance(part, (dict, list)) and part:
            key = data.draw(st.sampled_from(sorted(part) if isinstance(part, dict) else list(range(len(part)))))  # fmt: skip
            if not isinstance(part[key], (dict, list)) or not part[key] or data.draw(st.booleans()):
                del part[key]
                break
            part = part[key]
    said = diagnose_pod(thing, events=events())
    assert said.message
    assert said.is_infra == (said.kind in INFRA)
    assert not (said.is_final and said.is_waiting)


@given(st.integers(0, 599), JSON)
def test_any_answer_is_read(status: int, body: object) -> None:
    assert diagnose_error(status, body).message


@pytest.mark.parametrize("causes", [5, True, "x", {"a": 1}])
def test_causes_of_a_refusal_that_are_no_list_are_none(causes: object) -> None:
    assert diagnose_error(403, {"details": {"causes": causes}, "message": "x"}).message


def test_an_amount_that_cannot_be_read_is_not_more_than_a_quota_allows() -> None:
    said = refusal(
        403,
        "exceeded quota: q, requested: limits.cpu=1Xi, used: limits.cpu=0, limited: limits.cpu=5",
    )
    assert not said.is_final


@given(JSON)
def test_any_line_is_read(line: object) -> None:
    read = read_line(line)
    assert read.must_relist or read.diagnosis or read.version
