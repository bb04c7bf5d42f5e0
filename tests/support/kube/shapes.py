"""The status of a pod, in the shapes that a real kubelet writes.

Rule: pure; the shapes are those of the recorded objects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.kube.store import stamp

Object = dict[str, Any]
HOST = "10.88.0.1"
NODE = "node1"
NO_NODE = (
    "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: "
    "1 Preemption is not helpful for scheduling."
)
CONDITIONS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
)
"""In the order in which the kubelet writes them."""


class Status:
    """The status of one pod, as its kubelet knows it."""

    def __init__(self, pod: Object) -> None:
        self._spec = pod["spec"]
        self.more: Object = {
            each: value
            for each, value in pod["status"].items()
            if each not in ("conditions", "phase")
        }
        self.phase = "Pending"
        self.states: dict[str, Object] = {}
        """State of each container, init ones included."""
        self.ready: set[str] = set()
        self.started: set[str] = set()
        self.reason = ""
        self.message = ""
        self._conditions: dict[str, Object] = {}
        for found in pod["status"].get("conditions") or ():
            self._conditions[found["type"]] = found

    @property
    def inits(self) -> Sequence[Object]:
        """Init containers, as they are in the spec."""
        return self._spec.get("initContainers") or ()

    @property
    def containers(self) -> Sequence[Object]:
        """The others."""
        return self._spec.get("containers") or ()

    def condition(self, kind: str, status: str, reason: str = "", message: str = "") -> None:
        """Set one; its time changes with its status."""
        before = self._conditions.get(kind, {})
        is_same = before.get("status") == status
        self._conditions[kind] = {
            "lastProbeTime": None,
            "lastTransitionTime": before["lastTransitionTime"] if is_same else stamp(),
            **({"message": message} if message else {}),
            "observedGeneration": 1,
            **({"reason": reason} if reason else {}),
            "status": status,
            "type": kind,
        }

    def begin(self) -> None:
        """The kubelet has seen the pod."""
        reason = "PodInitializing" if self.inits else "ContainerCreating"
        for each in (*self.inits, *self.containers):
            self.states[each["name"]] = {"waiting": {"reason": reason}}
        self.more |= {
            "hostIP": HOST,
            "hostIPs": [{"ip": HOST}],
            "resources": {},
            "startTime": stamp(),
        }
        self.condition("PodReadyToStartContainers", "False")
        self.judge()

    def address(self, address: str) -> None:
        """The sandbox is there."""
        self.more |= {"podIP": address, "podIPs": [{"ip": address}]}
        self.condition("PodReadyToStartContainers", "True")

    def judge(self) -> None:
        """Conditions that follow from the containers."""
        left = [each["name"] for each in self.inits if not self.is_done(each)]
        ended = [self.ended(each["name"]) for each in self.containers]
        is_over = self.phase in ("Failed", "Succeeded") or all(ended)
        is_failed = self.phase == "Failed" or any(each.get("exitCode") for each in ended)
        if left:
            text = f"containers with incomplete status: [{' '.join(left)}]"
            self.condition("Initialized", "False", "ContainersNotInitialized", text)
        else:
            self.condition(
                "Initialized", "True", "PodCompleted" if is_over and not is_failed else ""
            )
        if is_over:
            reason = "PodFailed" if is_failed else "PodCompleted"
            self.condition("Ready", "False", reason)
            self.condition("ContainersReady", "False", reason)
            return
        unready = [each["name"] for each in self.containers if each["name"] not in self.ready]
        for kind in ("Ready", "ContainersReady"):
            if unready:
                text = f"containers with unready status: [{' '.join(unready)}]"
                self.condition(kind, "False", "ContainersNotReady", text)
            else:
                self.condition(kind, "True")

    def ended(self, name: str) -> Object:
        """Its `terminated` state, empty when it has none."""
        found: Object = self.states.get(name, {}).get("terminated") or {}
        return found

    def is_done(self, init: Object) -> bool:
        """Whether an init container has done its part."""
        if init.get("restartPolicy") == "Always":
            return init["name"] in self.started
        return self.ended(init["name"]).get("exitCode") == 0

    def whole(self, generation: int) -> Object:
        """As it is written to the API."""
        made: Object = {
            **self.more,
            "conditions": [
                {**self._conditions[each], "observedGeneration": generation}
                for each in (
                    *(each for each in self._conditions if each not in CONDITIONS),
                    *CONDITIONS,
                )
                if each in self._conditions
            ],
            "observedGeneration": generation,
            "phase": self.phase,
            **({"reason": self.reason} if self.reason else {}),
            **({"message": self.message} if self.message else {}),
        }
        for name, given in (("initContainerStatuses", self.inits), ("containerStatuses", self.containers)):  # fmt: skip
            if given and self.states:
                made[name] = [self._container(each, name) for each in given]
        return made

    def _container(self, spec: Object, where: str) -> Object:
        name = spec["name"]
        state = self.states[name]
        is_made = not state.get("waiting")
        is_init = where == "initContainerStatuses"
        return {
            **({"containerID": container_id(state)} if is_made else {}),
            "image": spec["image"],
            "imageID": f"sha256:{hashlib.sha256(spec['image'].encode()).hexdigest()}" if is_made else "",
            "lastState": {},
            "name": name,
            "ready": name in self.ready or (is_init and self.is_done(spec)),
            **({"resources": spec.get("resources") or {}} if is_made else {}),
            "restartCount": 0,
            "started": name in self.started,
            "state": {
                how: {each: value for each, value in what.items() if how != "running" or each != "containerID"}
                for how, what in state.items()
            },
            "volumeMounts": [
                {**each, "recursiveReadOnly": "Disabled"} if each.get("readOnly") else each
                for each in spec.get("volumeMounts") or ()
            ],
        }  # fmt: skip


def container_id(state: Mapping[str, Object]) -> str:
    """The number of a container that was made."""
    return str(next(iter(state.values()))["containerID"])


def event(
    pod: Object, type_: str, reason: str, message: str, *, container: str = "", component: str = "kubelet"
) -> Object:  # fmt: skip
    """An Event about a pod."""
    metadata = pod["metadata"]
    now = stamp()
    return {
        "metadata": {"generateName": f"{metadata['name']}."},
        "involvedObject": {
            "apiVersion": "v1",
            **({"fieldPath": f"spec.containers{{{container}}}"} if container else {}),
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "resourceVersion": metadata["resourceVersion"],
            "uid": metadata["uid"],
        },
        "count": 1,
        "eventTime": None,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "message": message,
        "reason": reason,
        "reportingComponent": component,
        "reportingInstance": NODE if component == "kubelet" else f"{component}-vm",
        "source": {"component": component, **({"host": NODE} if component == "kubelet" else {})},
        "type": type_,
    }
