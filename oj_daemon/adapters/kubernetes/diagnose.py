"""What a pod or a line of a watch means, in words and with what to do about it.

Rule: pure. A place is dead when the container of its agent has ended, whatever the phase of the pod
says; pods of a lost node, and those that never got one, have no such container and are told by their conditions.

A pod that is being deleted ends its agent, which then looks as if it had failed by itself; so whoever keeps pods in a cache
gives the diagnosis from before, and the first cause of death stays the cause.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from oj_daemon.adapters.kubernetes.diagnosis import (
    INFRA,
    Diagnosis,
    Kind,
    as_number,
    as_text,
    joined,
)
from oj_daemon.adapters.kubernetes.refusals import diagnose_error
from oj_daemon.adapters.kubernetes.template import AGENT

Object = Mapping[str, Any]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a watch of pods."""

    version: str = ""
    """Where to watch on from; empty: as before."""
    uid: str = ""
    name: str = ""
    is_gone: bool = False
    """The pod is not there any more."""
    must_relist: bool = False
    """The watch is of no use any more; everything has to be listed again."""
    pod: dict[str, Any] | None = None
    diagnosis: Diagnosis | None = None


def diagnose_pod(
    pod: Object,
    *,
    events: Iterable[Object] = (),
    log_tail: str = "",
    before: Diagnosis | None = None,
    is_gone: bool = False,
) -> Diagnosis:
    """What is the matter with a pod; `before` is what was said about the same UID last, `is_gone` that it was deleted."""
    found = _Pod(pod, events)
    said = _of_pod(found)
    said = _after(said, before)
    if is_gone and not said.is_final:
        said = _gone(said)
    return msgspec.structs.replace(said, log_tail=log_tail or (before.log_tail if before else ""))


def diagnose_missing(name: str, before: Diagnosis | None = None) -> Diagnosis:
    """A pod that should be there and is not, or that has another UID now."""
    if before is not None and before.is_final:
        return before
    if before is not None and before.kind in INFRA:
        return _finally(before, has_run=before.has_run)
    return Diagnosis(
        kind=Kind.DELETED,
        message=f"the pod {name} is gone: somebody deleted it, or its node went away with it",
        advice=_WHO_DELETED,
        is_infra=True,
        is_final=True,
        has_run=before is not None and before.has_run,
    )


def read_line(
    line: object,
    before: Mapping[str, Diagnosis] | None = None,
    events: Mapping[str, Sequence[Object]] | None = None,
) -> Line:
    """What a line of a watch says; `before` holds diagnoses by UID, `events` those of a pod by its name."""
    if not isinstance(line, Mapping):
        return Line(must_relist=True, diagnosis=_broken("a line of the watch was cut off"))
    kind, thing = line.get("type"), line.get("object")
    if kind == "ERROR" or not isinstance(thing, Mapping):
        status = thing if isinstance(thing, Mapping) else {}
        if status.get("code") or status.get("message"):
            said = diagnose_error(0, status)
        else:
            said = _broken("the watch ended with an error that says nothing")
        return Line(must_relist=True, diagnosis=said)
    metadata = thing.get("metadata") or {}
    version = as_text(metadata.get("resourceVersion"))
    if kind == "BOOKMARK":
        return Line(version=version)
    if kind not in ("ADDED", "MODIFIED", "DELETED"):
        return Line(must_relist=True, diagnosis=_broken(f"the watch said {kind!r}"))
    uid, name = as_text(metadata.get("uid")), as_text(metadata.get("name"))
    is_gone = kind == "DELETED"
    said = diagnose_pod(
        thing,
        events=(events or {}).get(name, ()),
        before=(before or {}).get(uid),
        is_gone=is_gone,
    )
    return Line(
        version=version, uid=uid, name=name, is_gone=is_gone, pod=dict(thing), diagnosis=said
    )


# -- a pod ----------------------------------------------------------------------------------------------------------------

_WHO_DELETED: Final = "find out who or what deletes pods of oj, then: oj job resume"
_LOOK: Final = "oj agent logs shows what it said last"
_PULL_REASONS: Final = {
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable",
    "SignatureValidationFailed", "ImageInspectError",
}  # fmt: skip
_PULL_HOPELESS: Final = ("InvalidImageName", "ErrImageNeverPull")
_CONFIG_REASONS: Final = (
    *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    *("PreCreateHookError", "PreStartHookError", "PostStartHookError"),
)
_NOT_STARTED: Final = ("StartError", "ContainerCannotRun")
_OUT_OF_SIGHT: Final = "ContainerStatusUnknown"
_REFUSED_BY_NODE: Final = re.compile(
    r"OutOf\w+|NodeAffinity|NodePorts|NodeName|UnexpectedAdmissionError|AdmissionError|AppArmor"
    r"|InitContainerRestartPolicyForbidden|PodOSNotSupported|PodOSSelectorNodeLabelDoesNotMatch|SysctlForbidden"
    r"|SupplementalGroupsPolicyNotSupported|TopologyAffinityError|UnsupportedPodLevelResources|PodLevelResourcesNotAdmitted"
)
_NODE_DOWN: Final = ("NodeLost", "NodeShutdown", "Shutdown", "Terminated")
_DISRUPTIONS: Final = {
    "PreemptionByScheduler": Kind.PREEMPTED,
    "EvictionByEvictionAPI": Kind.EVICTED,
    "DeletionByTaintManager": Kind.NODE_LOST,
    "DeletionByPodGC": Kind.NODE_LOST,
    "TerminationByKubelet": Kind.NODE_LOST,
}
_PROBED: Final = re.compile(r"failed (liveness|startup) probe")
_EPOCH: Final = "1970-01-01T00:00:00Z"


class _Pod:
    """The parts of a pod that say something; whatever is missing is empty."""

    def __init__(self, pod: Object, events: Iterable[Object]) -> None:
        self.metadata: Object = pod.get("metadata") or {}
        self.spec: Object = pod.get("spec") or {}
        self.status: Object = pod.get("status") or {}
        self.name = as_text(self.metadata.get("name"))
        self.phase = as_text(self.status.get("phase"))
        self.reason = as_text(self.status.get("reason"))
        self.message = as_text(self.status.get("message")).strip()
        self.deletion = as_text(self.metadata.get("deletionTimestamp"))
        self.warnings = _warnings(events, self.name, as_text(self.metadata.get("uid")))

    def condition(self, kind: str) -> Object:
        for each in self.status.get("conditions") or ():
            if each.get("type") == kind:
                return dict(each)
        return {}

    def container(self, name: str) -> Object:
        for each in self.status.get("containerStatuses") or ():
            if each.get("name") == name:
                return dict(each)
        return {}

    def state(self, name: str) -> Object:
        return self.container(name).get("state") or {}

    @property
    def ended(self) -> Object:
        """The end of the agent's container, if it came."""
        return self.state(AGENT).get("terminated") or {}

    @property
    def has_run(self) -> bool:
        ended = self.ended
        if ended.get("reason") == _OUT_OF_SIGHT:
            return (
                True  # it is not said any more, and work that may be there is not to be done twice
            )
        if ended:
            began = ended.get("startedAt")
            return ended.get("reason") not in _NOT_STARTED and began not in (_EPOCH, None)
        return bool(self.state(AGENT).get("running"))

    def limit(self, container: str, resource: str) -> str:
        both = [*(self.spec.get("containers") or ()), *(self.spec.get("initContainers") or ())]
        for each in both:
            if each.get("name") == container:
                return as_text(((each.get("resources") or {}).get("limits") or {}).get(resource))
        return ""

    def warning(self, *reasons: str) -> str:
        """What the newest event of these kinds says."""
        return next((text for reason, text in self.warnings if reason in reasons), "")


def _of_pod(pod: _Pod) -> Diagnosis:
    """What the pod says by itself."""
    return (
        _taken_away(pod)
        or _ended(pod)
        or _init_failed(pod)
        or _over(pod)
        or _ending(pod)
        or _running(pod)
        or _not_scheduled(pod)
        or _blocked(pod)
        or _starting(pod)
    )


def _taken_away(pod: _Pod) -> Diagnosis | None:
    """The cluster took the place away, or is about to."""
    condition = pod.condition("DisruptionTarget")
    target = condition if condition.get("status") == "True" else {}
    stopped = pod.condition("TerminationTarget")  # how Kueue stops a pod that it admitted before
    reason = as_text(target.get("reason"))
    kind = _DISRUPTIONS.get(reason, Kind.EVICTED if reason else None)
    text = as_text(target.get("message")) or pod.message
    if pod.reason == "Evicted":
        kind, reason, text = Kind.EVICTED, pod.reason, pod.message or text
    elif pod.reason == "Preempting":
        kind, reason, text = Kind.PREEMPTED, pod.reason, pod.message or text
    elif pod.reason in _NODE_DOWN:
        kind, reason, text = Kind.NODE_LOST, pod.reason, pod.message or text
    elif pod.phase == "Unknown":
        kind, reason, text = Kind.NODE_LOST, "Unknown", pod.message or text
    elif kind is None and stopped.get("status") == "True":
        kind, reason = Kind.PREEMPTED, as_text(stopped.get("reason"))
        text = as_text(stopped.get("message"))
    if kind is None or pod.ended.get("reason") == "OOMKilled" or _had_ended(pod, target or stopped):
        return None
    what = {
        Kind.EVICTED: "the pod was evicted",
        Kind.PREEMPTED: "the pod had to make room for one of higher priority",
        Kind.NODE_LOST: "the node of the pod was lost",
    }[kind]
    return _infra(kind, pod, joined(what, text), _advice_for_loss(kind, text), reason)


def _had_ended(pod: _Pod, condition: Object) -> bool:
    """Whether the agent had ended before this came over the pod."""
    over, since = (
        _time(as_text(pod.ended.get("finishedAt"))),
        _time(as_text(condition.get("lastTransitionTime"))),
    )
    return over is not None and since is not None and over < since


def _infra(kind: Kind, pod: _Pod, message: str, advice: str, reason: str) -> Diagnosis:
    ended = pod.ended
    is_over = bool(ended) or pod.phase in ("Failed", "Succeeded")
    return Diagnosis(
        kind=kind,
        message=message,
        advice=advice,
        container=AGENT if ended else "",
        reason=reason,
        exit_code=_code(ended),
        is_infra=True,
        is_waiting=not is_over,
        is_final=is_over,
        has_run=pod.has_run,
        ends_at="" if is_over else pod.deletion,
    )


def _advice_for_loss(kind: Kind, text: str) -> str:
    match kind:
        case Kind.EVICTED if "ephemeral" in text or "emptyDir" in text:
            return 'let it have more room: container { limits = { "ephemeral-storage" = "16Gi" } }, or OJ_K8S_EPHEMERAL_LIMIT'
        case Kind.EVICTED if "low on resource" in text:
            return 'ask for what it really needs: container { requests = { memory = "2Gi" } }, or OJ_K8S_MEMORY_REQUEST'
        case Kind.PREEMPTED:
            return "give places a higher priorityClassName in container { pod }, or the cluster more nodes"
        case _:
            return "nothing is to be done where nodes come and go: oj starts the place again, or does what on_dead says"


def _ended(pod: _Pod) -> Diagnosis | None:  # noqa: PLR0911 - one return for each way to end
    """The agent's container has ended, by itself as far as it can be seen."""
    ended = pod.ended
    if not ended:
        return None
    reason, code = as_text(ended.get("reason")), _code(ended)
    text = as_text(ended.get("message")).strip()
    # What an image has no program for reads the same whatever the code; what was deleted while it ran is no failure.
    if reason in _NOT_STARTED:
        return Diagnosis(
            kind=Kind.CONFIG,
            message=joined("the agent's container could not be started", text),
            advice="the image has to have the program that is named there, oj-sidecar as a rule: check container { image }",
            container=AGENT,
            reason=reason,
            exit_code=code,
            is_final=True,
        )
    if reason == "OOMKilled":
        return _out_of_memory(pod, code)
    if reason == _OUT_OF_SIGHT:
        what = "the node lost sight of the agent's container"
        return _infra(Kind.NODE_LOST, pod, joined(what, text), _advice_for_loss(Kind.NODE_LOST, ""), reason)  # fmt: skip
    if pod.reason == "DeadlineExceeded":
        return _deadline(pod, code)
    if pod.deletion and _was_deleted_first(pod, ended, code):
        return _deleted(pod, reason)
    if _PROBED.search(pod.warning("Killing")):
        unhealthy = pod.warning("Unhealthy")
        what = "the agent's container was ended because its sidecar did not answer"
        return _crashed(pod, joined(what, unhealthy), code, "Unhealthy")
    if code == 0:
        return Diagnosis(kind=Kind.COMPLETED, message="the agent's container has ended without an error", container=AGENT,
                         reason=reason, exit_code=0, is_final=True, has_run=pod.has_run)  # fmt: skip
    return _crashed(pod, joined(f"the agent's container ended with {_exit(code)}", text), code, reason)  # fmt: skip


def _crashed(pod: _Pod, message: str, code: int | None, reason: str) -> Diagnosis:
    return Diagnosis(kind=Kind.CRASHED, message=message, advice=_LOOK, container=AGENT, reason=reason,
                     exit_code=code, is_final=True, has_run=pod.has_run)  # fmt: skip


def _out_of_memory(pod: _Pod, code: int | None) -> Diagnosis:
    limit = pod.limit(AGENT, "memory")
    more = _twice(limit) or "8Gi"
    its = f"its limit of {limit}" if limit else "its node could spare"
    return Diagnosis(
        kind=Kind.OOM_KILLED,
        message=f"the agent's container was killed because it wanted more memory than {its}",
        advice=f'let it have more: container {{ limits = {{ memory = "{more}" }} }}, or OJ_K8S_MEMORY_LIMIT={more}',
        container=AGENT,
        reason="OOMKilled",
        exit_code=code,
        is_final=True,
        has_run=pod.has_run,
    )


def _deadline(pod: _Pod, code: int | None) -> Diagnosis:
    seconds = pod.spec.get("activeDeadlineSeconds")
    return Diagnosis(
        kind=Kind.DEADLINE,
        message=joined(f"the pod may run for {seconds} seconds and took longer", pod.message),
        advice="raise or remove activeDeadlineSeconds in container { pod } or OJ_K8S_POD_TEMPLATE",
        container=AGENT,
        reason="DeadlineExceeded",
        exit_code=code,
        is_final=True,
        has_run=pod.has_run,
    )


def _deleted(pod: _Pod, reason: str) -> Diagnosis:
    is_over = bool(pod.ended) or pod.phase in ("Failed", "Succeeded")
    message = _deletion("the pod", is_over=is_over, has_run=pod.has_run)
    return _infra(Kind.DELETED, pod, message, _WHO_DELETED, reason)


def _deletion(pod: str, *, is_over: bool, has_run: bool) -> str:
    if is_over:
        return f"{pod} was deleted while {'its agent ran' if has_run else 'it started'}"
    return f"{pod} is being deleted while {'its agent runs' if has_run else 'it starts'}"


def _was_deleted_first(pod: _Pod, ended: Object, code: int | None) -> bool:
    """Whether the deletion was asked for before the container ended."""
    grace = as_number(pod.metadata.get("deletionGracePeriodSeconds"))
    asked, over = _time(pod.deletion), _time(as_text(ended.get("finishedAt")))
    if asked is not None and over is not None and over >= asked - timedelta(seconds=grace):
        return True
    # Once all containers have ended, the kubelet asks again without any grace, so the time of the first is not known.
    return grace == 0 and code in (137, 143)


def _init_failed(pod: _Pod) -> Diagnosis | None:
    """An init container has failed, which ends a pod that is never restarted."""
    stay = {
        each.get("name")
        for each in pod.spec.get("initContainers") or ()
        if each.get("restartPolicy") == "Always"
    }
    for each in pod.status.get("initContainerStatuses") or ():
        ended = (each.get("state") or {}).get("terminated") or {}
        code = _code(ended)
        if not ended or code == 0 or each.get("name") in stay:
            continue
        name, reason = as_text(each.get("name")), as_text(ended.get("reason"))
        if pod.deletion and _was_deleted_first(pod, ended, code):
            return _deleted(pod, reason)
        what = f"the init container {name} ended with {_exit(code)}"
        advice = "look at the last lines of its log"
        if reason == "OOMKilled":
            limit = pod.limit(name, "memory")
            what = f"the init container {name} was killed because it wanted more memory than its limit of {limit}"
            more = _twice(limit) or "8Gi"
            advice = f'let it have more: container {{ limits = {{ memory = "{more}" }} }}'
        elif name in ("clone", "checkout"):
            access = _access(pod, name)
            advice = f"check that places may read the repository ({access}), and push the branch: git push -u origin HEAD"
        return Diagnosis(
            kind=Kind.INIT_FAILED,
            message=joined(what, as_text(ended.get("message")).strip()),
            advice=advice,
            container=name,
            reason=reason,
            exit_code=code,
            is_final=True,
        )
    return None


def _access(pod: _Pod, name: str) -> str:
    """What a clone proves itself with; over https, only to the server that is named."""
    words = [
        word
        for each in pod.spec.get("initContainers") or ()
        if each.get("name") == name
        for word in each.get("command") or ()
    ]
    if any(as_text(word).startswith(("https://", "http://")) for word in words):
        return "OJ_K8S_GIT_SECRET for the server of OJ_K8S_GIT_URL"
    return "OJ_K8S_SSH_SECRET"


def _over(pod: _Pod) -> Diagnosis | None:
    """The pod ended without a word about the agent's container."""
    if pod.phase == "Failed" and pod.reason == "DeadlineExceeded":
        return _deadline(pod, None)
    if pod.phase == "Failed" and _REFUSED_BY_NODE.fullmatch(pod.reason):
        what = "the node that was chosen did not take the pod"
        advice = "nothing is to be done: oj tries again, and gives up after a few times"
        return _infra(Kind.ADMISSION, pod, joined(what, pod.message), advice, pod.reason)
    if pod.phase == "Failed":
        return _crashed(pod, joined("the pod failed", joined(pod.reason, pod.message)), None, pod.reason)  # fmt: skip
    if pod.phase == "Succeeded":
        return Diagnosis(
            kind=Kind.COMPLETED, message="the pod has ended without an error", is_final=True
        )
    return None


def _ending(pod: _Pod) -> Diagnosis | None:
    return _deleted(pod, "") if pod.deletion else None


def _running(pod: _Pod) -> Diagnosis | None:
    status = pod.container(AGENT)
    if not pod.state(AGENT).get("running"):
        return None
    if status.get("ready"):
        return Diagnosis(kind=Kind.RUNNING, message="the place is ready", has_run=True)
    unhealthy = pod.warning("Unhealthy")
    return Diagnosis(
        kind=Kind.RUNNING if status.get("started") else Kind.STARTING,
        message=joined(
            "the agent's container runs, and its sidecar does not answer yet", unhealthy
        ),
        container=AGENT,
        reason="Unhealthy" if unhealthy else "",
        is_waiting=True,
        has_run=True,
    )


def _not_scheduled(pod: _Pod) -> Diagnosis | None:
    condition = pod.condition("PodScheduled")
    if condition.get("status") != "False":
        return None
    reason, text = as_text(condition.get("reason")), as_text(condition.get("message")).strip()
    if reason == "SchedulingGated":
        gates = [as_text(each.get("name")) for each in pod.spec.get("schedulingGates") or ()]
        who = f" ({', '.join(gates)})" if gates else ""
        is_kueue = any(gate.startswith("kueue.x-k8s.io/") for gate in gates)
        queue = as_text((pod.metadata.get("labels") or {}).get("kueue.x-k8s.io/queue-name"))
        return Diagnosis(
            kind=Kind.GATED,
            message=joined(f"the pod waits until its gate is opened{who}", text),
            advice=f"it is Kueue's turn: see what is before it in its queue {queue}".rstrip()
            if is_kueue
            else "whoever put the gate there has to remove it",
            reason=reason,
            is_waiting=True,
        )
    return Diagnosis(
        kind=Kind.UNSCHEDULABLE,
        message=joined("no node takes the pod", text),
        advice=_advice_for_scheduling(text),
        reason=reason,
        is_waiting=True,
    )


def _advice_for_scheduling(text: str) -> str:
    short = re.findall(r"Insufficient ([^\s,.]+(?:\.[^\s,.]+)*)", text)
    found = []
    if short:
        names = ", ".join(dict.fromkeys(short))
        found.append(f'ask for less {names} (container {{ requests = {{ "{short[0]}" = ... }} }}), or add nodes')  # fmt: skip
    if "affinity/selector" in text or "node selector" in text:
        found.append("no node has what nodeSelector or affinity in container { pod } or OJ_K8S_POD_TEMPLATE asks for")  # fmt: skip
    if "taint" in text:
        found.append("add a toleration for the taint to container { pod } or OJ_K8S_POD_TEMPLATE")
    if "persistentvolumeclaim" in text or "volume" in text:
        found.append("check the volume claim that container { pod } names")
    return "; ".join(found) or "add nodes, or change what container { pod } asks for"


def _blocked(pod: _Pod) -> Diagnosis | None:
    """A container cannot be made: its image, its Secrets, its volumes."""
    statuses = [
        *(pod.status.get("initContainerStatuses") or ()),
        *(pod.status.get("containerStatuses") or ()),
    ]
    for status in statuses:
        waiting = (status.get("state") or {}).get("waiting") or {}
        name, reason = as_text(status.get("name")), as_text(waiting.get("reason"))
        text = as_text(waiting.get("message")).strip()
        if reason in _PULL_REASONS:
            return _image_pull(name, reason, text, as_text(status.get("image")))
        if reason in _CONFIG_REASONS:
            return _config(name, reason, text)
    has_begun = any(
        (each.get("state") or {}).keys() & {"running", "terminated"} for each in statuses
    )
    mount = pod.warning("FailedMount", "FailedAttachVolume", "FailedMapVolume")
    if mount and not has_begun:
        return Diagnosis(
            kind=Kind.CONFIG,
            message=joined("a volume of the pod cannot be mounted", mount),
            advice=_advice_for_missing(mount)
            or "check the volumes in container { pod } and OJ_K8S_POD_TEMPLATE",
            reason="FailedMount",
            is_waiting=True,
        )
    return None


def _image_pull(container: str, reason: str, text: str, image: str) -> Diagnosis:
    is_hopeless = reason in _PULL_HOPELESS
    what = f"the image {image} of the container {container} cannot be had"
    if reason == "InvalidImageName":
        advice = "correct container { image }"
    elif reason == "ErrImageNeverPull":
        advice = "put the image on the nodes, or let it be pulled: imagePullPolicy of the container in container { pod }"
    elif re.search(r"unauthorized|denied|authentication|403|401", text, re.IGNORECASE):
        advice = "name a Secret that may pull it: imagePullSecrets in container { pod } or OJ_K8S_POD_TEMPLATE"
    elif re.search(r"not found|manifest unknown|NotFound", text):
        advice = "push the image, or correct container { image }"
    else:
        advice = "check container { image }, and that the nodes can reach its registry"
    return Diagnosis(
        kind=Kind.IMAGE_PULL,
        message=joined(what, text),
        advice=advice,
        container=container,
        reason=reason,
        is_waiting=not is_hopeless,
        is_hopeless=is_hopeless,
    )


def _config(container: str, reason: str, text: str) -> Diagnosis:
    is_root = "runAsNonRoot" in text
    if is_root:
        advice = "build the image with another user than root (USER 65532), or set runAsUser in container { pod }"
    else:
        advice = (
            _advice_for_missing(text)
            or "correct container {} in the runbook, or OJ_K8S_POD_TEMPLATE"
        )
    return Diagnosis(
        kind=Kind.CONFIG,
        message=joined(f"the container {container} cannot be made", text),
        advice=advice,
        container=container,
        reason=reason,
        is_waiting=not is_root,
        is_hopeless=is_root,
    )


def _advice_for_missing(text: str) -> str:
    missing = re.search(r'(secret|configmap) "([^"]+)" not found', text)
    if missing:
        return (
            f"make the {missing[1]} {missing[2]} in the namespace of the places, or stop naming it"
        )
    key = re.search(r"(?:couldn't find key|non-existent (?:secret|config) key:?) (\S+)", text)
    return f"add the key {key[1]} to it" if key else ""


def _starting(pod: _Pod) -> Diagnosis:
    sandbox = pod.warning("FailedCreatePodSandBox", "NetworkNotReady")
    for status in pod.status.get("initContainerStatuses") or ():
        if (status.get("state") or {}).get("running") and not status.get("ready"):
            name = as_text(status.get("name"))
            return Diagnosis(kind=Kind.STARTING, message=f"the init container {name} runs",
                             container=name, is_waiting=True)  # fmt: skip
    is_scheduled = pod.condition("PodScheduled").get("status") == "True"
    what = "the pod starts on its node" if is_scheduled else "the pod waits for a node"
    return Diagnosis(
        kind=Kind.STARTING,
        message=joined(what, sandbox),
        reason="FailedCreatePodSandBox" if sandbox else "",
        is_waiting=True,
    )


def _after(said: Diagnosis, before: Diagnosis | None) -> Diagnosis:
    """The first cause of death stays the cause: what follows it only shows that it is over."""
    if before is None:
        return said
    if before.is_final:
        return before
    has_run = said.has_run or before.has_run
    if not (before.kind in INFRA and said.is_final):
        return msgspec.structs.replace(said, has_run=has_run)
    is_same = before.kind is said.kind
    return msgspec.structs.replace(
        said if is_same else _finally(before, has_run=has_run),
        container=said.container,
        exit_code=said.exit_code,
        has_run=has_run,
    )


def _finally(said: Diagnosis, *, has_run: bool) -> Diagnosis:
    """What was about to happen has happened."""
    message = said.message
    if said.kind is Kind.DELETED:
        message = _deletion("the pod", is_over=True, has_run=has_run)
    return msgspec.structs.replace(
        said, message=message, is_final=True, is_waiting=False, ends_at="", has_run=has_run
    )


def _gone(said: Diagnosis) -> Diagnosis:
    """The pod was deleted before its agent had ended."""
    if said.kind in INFRA:
        return _finally(said, has_run=said.has_run)
    return Diagnosis(
        kind=Kind.DELETED,
        message=_deletion("the pod", is_over=True, has_run=said.has_run),
        advice=_WHO_DELETED,
        is_infra=True,
        is_final=True,
        has_run=said.has_run,
    )


def _warnings(events: Iterable[Object], name: str, uid: str) -> list[tuple[str, str]]:
    """Warnings about this pod, and why its containers were ended; the newest first."""
    found = []
    for event in events:
        about = event.get("involvedObject") or event.get("regarding") or {}
        is_same = about.get("uid") == uid if uid and about.get("uid") else about.get("name") == name
        if is_same and (event.get("type") == "Warning" or event.get("reason") == "Killing"):
            series = event.get("series") or {}
            when = (
                event.get("lastTimestamp")
                or series.get("lastObservedTime")
                or event.get("eventTime")
                or ""
            )
            said = as_text(event.get("message") or event.get("note")).strip()
            found.append((as_text(when), as_text(event.get("reason")), said))
    found.sort(key=lambda each: each[0], reverse=True)
    return [(reason, text) for _, reason, text in found]


def _broken(message: str) -> Diagnosis:
    return Diagnosis(
        kind=Kind.SERVER_ERROR,
        message=message,
        advice="oj lists all pods again",
        is_waiting=True,
    )


# -- single values ----------------------------------------------------------------------------------------------------------


def _code(ended: Object) -> int | None:
    code = ended.get("exitCode")
    return code if isinstance(code, int) else None


def _exit(code: int | None) -> str:
    match code:
        case None:
            return "an unknown code"
        case 137:
            return "exit code 137 (killed)"
        case 143:
            return "exit code 143 (told to end)"
        case _:
            return f"exit code {code}"


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _twice(text: str) -> str:
    """A quantity of twice the size, in the same unit."""
    read = re.fullmatch(r"(\d+)(\D*)", text)
    return f"{2 * int(read[1])}{read[2]}" if read else ""
