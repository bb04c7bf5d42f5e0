"""The objects of a test API server, with the rules of the real one: versions, conflicts, and answers in its words.

Rule: pure state, no I/O; what is refused is a `Refused` in the shape of ../../../shared recordings (tests compare with them).
Any group, version and plural works the same way; a new kind is a line in KINDS.
"""

from __future__ import annotations

import base64
import copy
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

Object = dict[str, Any]

HISTORY = 20_000
"""Changes that a watch may still ask for."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
_OURS = ("uid", "creationTimestamp", "name", "namespace")
"""Metadata that a client cannot change."""


class Resource(NamedTuple):
    """A kind of object, as it is addressed."""

    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        """As it is in the objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As it is in messages about conflicts."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS = {
    Resource("", "v1", "namespaces"): "Namespace",
    Resource("", "v1", "pods"): "Pod",
    Resource("", "v1", "secrets"): "Secret",
    Resource("", "v1", "events"): "Event",
    Resource("coordination.k8s.io", "v1", "leases"): "Lease",
    Resource("", "v1", "configmaps"): "ConfigMap",
    Resource("", "v1", "persistentvolumeclaims"): "PersistentVolumeClaim",
    Resource("", "v1", "serviceaccounts"): "ServiceAccount",
    Resource("", "v1", "services"): "Service",
    Resource("apps", "v1", "statefulsets"): "StatefulSet",
    Resource("networking.k8s.io", "v1", "networkpolicies"): "NetworkPolicy",
    Resource("rbac.authorization.k8s.io", "v1", "rolebindings"): "RoleBinding",
    Resource("rbac.authorization.k8s.io", "v1", "roles"): "Role",
}
NAMESPACES = Resource("", "v1", "namespaces")
PODS = Resource("", "v1", "pods")
SECRETS = Resource("", "v1", "secrets")
EVENTS = Resource("", "v1", "events")
CLAIMS = Resource("", "v1", "persistentvolumeclaims")
CONFIG_MAPS = Resource("", "v1", "configmaps")
SERVICES = Resource("", "v1", "services")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
_OVER = ("Failed", "Succeeded")
"""Phases of pods that have ended."""


class Key(NamedTuple):
    """One object, or with an empty name all of a kind; an empty namespace means all of them."""

    resource: Resource
    namespace: str
    name: str = ""


class Change(NamedTuple):
    """Something that happened to an object."""

    version: int
    type: str
    key: Key
    object: Object


class Refused(Exception):
    """An answer that is a Status."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status: Object = {
            "apiVersion": "v1",
            "code": code,
            "kind": "Status",
            "message": message,
            "metadata": {},
            "status": "Failure",
            **({"reason": reason} if reason else {}),
            **({"details": details} if details else {}),
        }


class Store:
    """All objects, and their latest changes."""

    def __init__(self, *namespaces: str) -> None:
        self.version = 100
        self.oldest = 100
        """Watches from before this version are too old."""
        self.changes: list[Change] = []
        self.listeners: list[Callable[[], None]] = []
        """Told after each change."""
        self._objects: dict[Key, Object] = {}
        for name in {"default", *namespaces}:
            self.create(Key(NAMESPACES, ""), {"metadata": {"name": name}})

    def get(self, key: Key) -> Object:
        """One object."""
        found = self._objects.get(key)
        if found is None:
            raise _not_found(key)
        return copy.deepcopy(found)

    def list(self, key: Key, query: Mapping[str, str]) -> Object:
        """All objects of a kind that the selectors select."""
        items = [
            copy.deepcopy(found)
            for other, found in sorted(self._objects.items())
            if covers(key, other) and selects(found, query)
        ]
        return {
            "apiVersion": key.resource.api_version,
            "kind": f"{KINDS[key.resource]}List",
            "metadata": {"resourceVersion": str(self.version)},
            "items": items,
        }

    def create(self, key: Key, sent: Object) -> Object:
        """A new object."""
        made = copy.deepcopy(sent)
        metadata = made.setdefault("metadata", {})
        if metadata.get("resourceVersion"):
            message = "resourceVersion should not be set on objects to be created"
            raise Refused(500, "", message)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        key = key._replace(name=str(metadata.get("name") or ""))
        if key.resource != NAMESPACES:
            metadata["namespace"] = key.namespace
            self.get(Key(NAMESPACES, "", key.namespace))
        _check(key, made)
        if key in self._objects:
            raise Refused(
                409,
                "AlreadyExists",
                f'{key.resource.qualified} "{key.name}" already exists',
                _details(key),
            )
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = stamp()
        if key.resource == PODS:
            _new_pod(made)
        if key.resource == SECRETS:
            _encode(made)
        return self._put("ADDED", key, made)

    def replace(self, key: Key, sent: Object) -> Object:
        """The whole object anew, if nobody changed it since the version that was sent."""
        before = self.get(key)
        made = copy.deepcopy(sent)
        metadata = made.setdefault("metadata", {})
        if not metadata.get("resourceVersion") and KINDS[key.resource] == "Lease":
            cause = "Invalid value: 0x0: must be specified for an update"
            raise _invalid(key, "metadata.resourceVersion", cause)
        self._check_version(key, made, before)
        metadata.update(
            {name: before["metadata"][name] for name in _OURS if name in before["metadata"]}
        )
        return self._changed(key, before, made)

    def patch(self, key: Key, sent: Object) -> Object:
        """A merge patch."""
        before = self.get(key)
        made = copy.deepcopy(before)
        self._check_version(key, sent, before)
        merge(made, sent)
        made["metadata"].update(
            {name: before["metadata"][name] for name in _OURS if name in before["metadata"]}
        )
        return self._changed(key, before, made)

    def update(self, key: Key, uid: str, change: Callable[[Object], None]) -> bool:
        """Change an object in place, as its controllers do; False when it is not there any more."""
        before = self._objects.get(key)
        if before is None or before["metadata"]["uid"] != uid:
            return False
        made = copy.deepcopy(before)
        change(made)
        if made != before:
            self._put("MODIFIED", key, made)
        return True

    def delete(self, key: Key, options: Mapping[str, Any] | None = None) -> Object:
        """Remove the object; a pod that is on a node only gets a date, unless no grace is given."""
        gone = self.get(key)
        options = options or {}
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != gone["metadata"]["uid"]:
            raise Refused(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {key.resource.qualified} "{key.name}": the UID in the precondition '
                f"({wanted}) does not match the UID in record ({gone['metadata']['uid']}). "
                "The object might have been deleted and then recreated",
                _details(key),
            )
        if key.resource == PODS:
            return self._delete_pod(key, gone, options.get("gracePeriodSeconds"))
        self._remove(key)
        details = {**_details(key), "uid": gone["metadata"]["uid"]}
        return {
            "apiVersion": "v1",
            "details": details,
            "kind": "Status",
            "metadata": {},
            "status": "Success",
        }

    def _delete_pod(self, key: Key, pod: Object, grace: object) -> Object:
        spec, metadata = pod["spec"], pod["metadata"]
        seconds = int(str(spec["terminationGracePeriodSeconds"] if grace is None else grace))
        before = metadata.get("deletionGracePeriodSeconds")
        if not spec.get("nodeName") or pod["status"].get("phase") in _OVER:
            seconds = 0
        if before is None or seconds < before:
            metadata["deletionTimestamp"] = stamp(seconds)
            metadata["deletionGracePeriodSeconds"] = seconds
            metadata["generation"] = metadata.get("generation", 1) + (before is None)
            if spec.get("nodeName"):
                pod = self._put("MODIFIED", key, pod)
        if seconds == 0:
            self._remove(key)
        return pod

    def _remove(self, key: Key) -> None:
        gone = self._objects.pop(key)
        self._note("DELETED", key, gone)
        for other, found in list(self._objects.items()):
            if self._is_orphan(found) and other in self._objects:
                self._remove(other)

    def _is_orphan(self, found: Object) -> bool:
        """Whether it belongs to objects of which none is left."""
        owners = found["metadata"].get("ownerReferences") or ()
        alive = {each["metadata"]["uid"] for each in self._objects.values()} if owners else set()
        return bool(owners) and not any(owner.get("uid") in alive for owner in owners)

    def expire(self) -> None:
        """Forget the changes so far, as the real one does after some minutes."""
        self.oldest = self.version
        self.changes.clear()

    def _check_version(self, key: Key, sent: Object, before: Object) -> None:
        version = (sent.get("metadata") or {}).get("resourceVersion")
        if version and version != before["metadata"]["resourceVersion"]:
            raise Refused(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {key.resource.qualified} "{key.name}": the object has been '
                "modified; please apply your changes to the latest version and try again",
                _details(key),
            )

    def _changed(self, key: Key, before: Object, made: Object) -> Object:
        made.update(apiVersion=key.resource.api_version, kind=KINDS[key.resource])
        made["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
        if key.resource == PODS:
            made["status"] = copy.deepcopy(
                before["status"]
            )  # another resource, which is the kubelet's
        if made == before:
            return before  # a write that changes nothing gives no new version
        _check(key, made)
        return self._put("MODIFIED", key, made)

    def _put(self, type_: str, key: Key, made: Object) -> Object:
        made.update(apiVersion=key.resource.api_version, kind=KINDS[key.resource])
        self._objects[key] = made
        self._note(type_, key, made)
        answer = copy.deepcopy(made)
        if self._is_orphan(made):
            self._remove(key)
        return answer

    def _note(self, type_: str, key: Key, changed: Object) -> None:
        self.version += 1
        changed["metadata"]["resourceVersion"] = str(self.version)
        self.changes.append(Change(self.version, type_, key, copy.deepcopy(changed)))
        if len(self.changes) > HISTORY:
            self.oldest = self.changes.pop(0).version
        for listener in self.listeners:
            listener()

    def since(self, version: int) -> Sequence[Change]:
        """The changes after a version; each has the number after that of the one before."""
        return self.changes[max(version - self.version + len(self.changes), 0) :]


def stamp(seconds: float = 0) -> str:
    """The time so many seconds from now, as it is in the objects."""
    return f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def _encode(secret: Object) -> None:
    """stringData can be written, never read."""
    for name, text in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()


def _new_pod(pod: Object) -> None:
    """What the server adds to a pod that is sent."""
    spec = pod.setdefault("spec", {})
    pod["metadata"]["generation"] = 1
    for name, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("enableServiceLinks", True),
        ("priority", 0),
        ("preemptionPolicy", "PreemptLowerPriority"),
    ):
        spec.setdefault(name, value)
    spec.pop("nodeName", None)
    asked = any((each.get("resources") or {}) for each in spec.get("containers") or ())
    pod["status"] = {"phase": "Pending", "qosClass": "Burstable" if asked else "BestEffort"}
    if spec.get("schedulingGates"):
        pod["status"]["conditions"] = [
            {
                "lastProbeTime": None,
                "lastTransitionTime": stamp(),
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "observedGeneration": 1,
                "reason": "SchedulingGated",
                "status": "False",
                "type": "PodScheduled",
            }
        ]


def covers(wide: Key, key: Key) -> bool:
    """Whether an object belongs to what a list or watch of `wide` shows."""
    return wide.resource == key.resource and wide.namespace in ("", key.namespace)


def merge(target: Object, patch: Object) -> None:
    """RFC 7386."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict):
            inner = target.get(name)
            target[name] = inner if isinstance(inner, dict) else {}
            merge(target[name], value)
        else:
            target[name] = value


def selects(found: Object, query: Mapping[str, str]) -> bool:
    """Whether labelSelector (=, ==, !=, name, !name) and fieldSelector (=, !=) let an object through."""
    labels = found["metadata"].get("labels") or {}
    return all(
        _matches(term, labels.get) for term in _terms(query.get("labelSelector", ""))
    ) and all(
        _matches(term, lambda path: _field(found, path))
        for term in _terms(query.get("fieldSelector", ""))
    )


def _terms(selector: str) -> list[str]:
    return [term.strip() for term in selector.split(",") if term.strip()]


def _matches(term: str, value_of: Callable[[str], str | None]) -> bool:
    match = re.fullmatch(r"([^!=]+?)\s*(!=|==?)\s*(.*)", term)
    if match is None:
        return (value_of(term.removeprefix("!")) is None) == term.startswith("!")
    return (value_of(match[1]) == match[3]) == (match[2] != "!=")


def _field(found: Object, path: str) -> str | None:
    value: Any = found
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else str(value)


def _check(key: Key, made: Object) -> None:
    if not _NAME.fullmatch(key.name):
        if not key.name:
            raise _invalid(key, "metadata.name", "Required value: name or generateName is required")
        raise _invalid(key, "metadata.name", f'Invalid value: "{key.name}": {_NAME_RULE}')
    if KINDS[key.resource] == "Lease":
        spec = made.get("spec") or {}
        for name in ("renewTime", "acquireTime"):
            if name in spec and not _MICRO_TIME.fullmatch(str(spec[name])):
                raise Refused(400, "BadRequest", f"Lease: cannot parse {spec[name]!r} as MicroTime")
        seconds = spec.get("leaseDurationSeconds", 1)
        if not isinstance(seconds, int):
            raise Refused(400, "BadRequest", f"Lease: cannot parse {seconds!r} as int32")
        if seconds <= 0:
            cause = f"Invalid value: {seconds}: must be greater than 0"
            raise _invalid(key, "spec.leaseDurationSeconds", cause)


def _invalid(key: Key, field: str, message: str) -> Refused:
    kind = KINDS[key.resource]
    group = f".{key.resource.group}" if key.resource.group else ""
    word = "FieldValueRequired" if message.startswith("Required") else "FieldValueInvalid"
    details = {
        "causes": [{"field": field, "message": message, "reason": word}],
        **({"group": key.resource.group} if group else {}),
        "kind": kind,
        "name": key.name,
    }
    text = f'{kind}{group} "{key.name}" is invalid: {field}: {message}'
    return Refused(422, "Invalid", text, details)


def _not_found(key: Key) -> Refused:
    return Refused(
        404, "NotFound", f'{key.resource.qualified} "{key.name}" not found', _details(key)
    )


def _details(key: Key) -> Object:
    group = {"group": key.resource.group} if key.resource.group else {}
    return {**group, "kind": key.resource.plural, "name": key.name}
