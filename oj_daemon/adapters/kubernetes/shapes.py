"""The shape of what people may write into a pod template.

Rule: pure. The API server silently drops a misspelt field; here it is an error with the nearest right name. A field that
Kubernetes knows and that is not ours to give (`template.py` says which and why) is let through for that module to take out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from oj_daemon.adapters.kubernetes import grammar
from oj_daemon.errors import Rejected
from oj_daemon.runbook import suggest

Object = dict[str, object]


class Map(msgspec.Struct, frozen=True):
    """A mapping with keys of one's own."""

    of: object


class Either(msgspec.Struct, frozen=True):
    """A whole number or a text: the number or name of a port."""


class Quantity(msgspec.Struct, frozen=True):
    """An amount, which becomes a text."""


# A shape is str, int or bool; `object` for what is not looked into; [shape] for a list; {name: shape} for an object, where
# "!" behind a name means that it has to be there; Map(shape); EITHER; QUANTITY.
EITHER: Final = Either()
QUANTITY: Final = Quantity()
TEXTS: Final = Map(str)
FIELD: Final = {"apiVersion": str, "fieldPath!": str}
RESOURCE_FIELD: Final = {"containerName": str, "divisor": QUANTITY, "resource!": str}
REFERENCE: Final = {"name": str, "optional": bool}
KEY: Final = {"key!": str, "name": str, "optional": bool}
ITEMS: Final = [{"key!": str, "path!": str, "mode": int}]
PROJECTED_ITEMS: Final = {"items": ITEMS, "name": str, "optional": bool}
EXPRESSIONS: Final = [{"key!": str, "operator!": str, "values": [str]}]
SELECTOR: Final = {"matchLabels": TEXTS, "matchExpressions": EXPRESSIONS}
TERM: Final = {"matchExpressions": EXPRESSIONS, "matchFields": EXPRESSIONS}
POD_TERM: Final = {
    "labelSelector": SELECTOR,
    "namespaceSelector": SELECTOR,
    "namespaces": [str],
    "topologyKey!": str,
    "matchLabelKeys": [str],
    "mismatchLabelKeys": [str],
}
POD_AFFINITY: Final = {
    "requiredDuringSchedulingIgnoredDuringExecution": [POD_TERM],
    "preferredDuringSchedulingIgnoredDuringExecution": [
        {"podAffinityTerm!": POD_TERM, "weight!": int}
    ],
}
AFFINITY: Final = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms!": [TERM]},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"preference!": TERM, "weight!": int}],
    },
    "podAffinity": POD_AFFINITY,
    "podAntiAffinity": POD_AFFINITY,
}
RESOURCES: Final = {
    "requests": Map(QUANTITY),
    "limits": Map(QUANTITY),
    "claims": [{"name!": str, "request": str}],
}
CLAIM: Final = {
    "metadata": {"labels": TEXTS, "annotations": TEXTS},
    "spec!": {
        "accessModes": [str],
        "resources": {"requests": Map(QUANTITY), "limits": Map(QUANTITY)},
        "selector": SELECTOR,
        "storageClassName": str,
        "volumeMode": str,
        "volumeName": str,
    },
}
FIELD_ITEMS: Final = [
    {"path!": str, "fieldRef": FIELD, "resourceFieldRef": RESOURCE_FIELD, "mode": int}
]
PROJECTION: Final = {
    "configMap": PROJECTED_ITEMS,
    "secret": PROJECTED_ITEMS,
    "downwardAPI": {"items": FIELD_ITEMS},
    "serviceAccountToken": {"audience": str, "expirationSeconds": int, "path!": str},
    "clusterTrustBundle": {
        "labelSelector": SELECTOR,
        "name": str,
        "optional": bool,
        "path!": str,
        "signerName": str,
    },
}
SOURCES: Final = {
    "configMap": {"defaultMode": int, **PROJECTED_ITEMS},
    "secret": {"defaultMode": int, "items": ITEMS, "optional": bool, "secretName": str},
    "csi": {
        "driver!": str,
        "fsType": str,
        "nodePublishSecretRef": {"name": str},
        "readOnly": bool,
        "volumeAttributes": TEXTS,
    },
    "downwardAPI": {"defaultMode": int, "items": FIELD_ITEMS},
    "emptyDir": {"medium": str, "sizeLimit": QUANTITY},
    "ephemeral": {"volumeClaimTemplate": CLAIM},
    "persistentVolumeClaim": {"claimName!": str, "readOnly": bool},
    "projected": {"defaultMode": int, "sources": [PROJECTION]},
}
"""The kinds of volumes that a restricted namespace takes."""
OTHER_SOURCES: Final = (
    "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "fc", "flexVolume", "flocker", "gcePersistentDisk",
    "gitRepo", "glusterfs", "hostPath", "image", "iscsi", "nfs", "photonPersistentDisk", "portworxVolume", "quobyte", "rbd",
    "scaleIO", "storageos", "vsphereVolume",
)  # fmt: skip
VOLUME: Final = {"name!": str, **SOURCES, **dict.fromkeys(OTHER_SOURCES, object)}
MOUNT: Final = {
    "name!": str,
    "mountPath!": str,
    "readOnly": bool,
    "subPath": str,
    "mountPropagation": object,
    "subPathExpr": object,
    "recursiveReadOnly": object,
}
ENV: Final = {
    "name!": str,
    "value": str,
    "valueFrom": {
        "configMapKeyRef": KEY,
        "secretKeyRef": KEY,
        "fieldRef": FIELD,
        "resourceFieldRef": RESOURCE_FIELD,
    },
}
HTTP: Final = {
    "path": str,
    "port!": EITHER,
    "scheme": str,
    "host": str,
    "httpHeaders": [{"name!": str, "value!": str}],
}
EXEC: Final = {"command": [str]}
TCP: Final = {"port!": EITHER, "host": str}
PROBE: Final = {
    "exec": EXEC,
    "httpGet": HTTP,
    "tcpSocket": TCP,
    "grpc": {"port!": int, "service": str},
    **dict.fromkeys(
        (
            *("initialDelaySeconds", "periodSeconds", "timeoutSeconds"),
            *("successThreshold", "failureThreshold", "terminationGracePeriodSeconds"),
        ),
        int,
    ),
}
HANDLER: Final = {"exec": EXEC, "httpGet": HTTP, "tcpSocket": TCP, "sleep": {"seconds!": int}}
CONTAINER: Final = {
    "name!": str,
    "image": str,
    "imagePullPolicy": str,
    "command": [str],
    "args": [str],
    "workingDir": str,
    "env": [ENV],
    "envFrom": [{"prefix": str, "configMapRef": REFERENCE, "secretRef": REFERENCE}],
    "ports": [
        {"containerPort!": int, "name": str, "protocol": str, "hostPort": object, "hostIP": object}
    ],
    "resources": RESOURCES,
    "volumeMounts": [MOUNT],
    "startupProbe": PROBE,
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
    "lifecycle": {"postStart": HANDLER, "preStop": HANDLER, "stopSignal": object},
    "restartPolicy": str,
    "terminationMessagePath": str,
    "terminationMessagePolicy": str,
    **dict.fromkeys(("stdin", "stdinOnce", "tty"), bool),
    **dict.fromkeys(
        ("securityContext", "volumeDevices", "resizePolicy", "restartPolicyRules"), object
    ),
}
SPEC: Final = {
    "nodeSelector": TEXTS,
    "tolerations": [
        {"key": str, "operator": str, "value": str, "effect": str, "tolerationSeconds": int}
    ],
    "affinity": AFFINITY,
    "topologySpreadConstraints": [
        {
            "labelSelector": SELECTOR,
            "matchLabelKeys": [str],
            "maxSkew!": int,
            "minDomains": int,
            "nodeAffinityPolicy": str,
            "nodeTaintsPolicy": str,
            "topologyKey!": str,
            "whenUnsatisfiable!": str,
        }
    ],
    "schedulingGates": [{"name!": str}],
    "resourceClaims": [{"name!": str, "resourceClaimName": str, "resourceClaimTemplateName": str}],
    "hostAliases": [{"ip!": str, "hostnames": [str]}],
    "dnsConfig": {
        "nameservers": [str],
        "searches": [str],
        "options": [{"name": str, "value": str}],
    },
    "imagePullSecrets": [{"name": str}],
    "volumes": [VOLUME],
    "containers": [CONTAINER],
    "initContainers": [CONTAINER],
    "activeDeadlineSeconds": int,
    "terminationGracePeriodSeconds": int,
    **dict.fromkeys(
        (
            *("dnsPolicy", "preemptionPolicy", "priorityClassName", "runtimeClassName"),
            *("schedulerName", "serviceAccountName"),
        ),
        str,
    ),
    **dict.fromkeys(
        (
            *("automountServiceAccountToken", "enableServiceLinks", "ephemeralContainers"),
            *("hostIPC", "hostNetwork", "hostPID", "hostUsers", "hostname", "hostnameOverride"),
            *("nodeName", "os", "overhead", "priority", "readinessGates", "resources"),
            *("restartPolicy", "securityContext", "serviceAccount", "setHostnameAsFQDN"),
            *("shareProcessNamespace", "subdomain", "evictionResponders", "schedulingGroup"),
        ),
        object,
    ),
}
METADATA: Final = {
    "labels": TEXTS,
    "annotations": TEXTS,
    **dict.fromkeys(
        (
            *("name", "namespace", "generateName", "uid", "resourceVersion", "ownerReferences"),
            *("finalizers", "creationTimestamp", "generation", "managedFields", "selfLink"),
            *("deletionTimestamp", "deletionGracePeriodSeconds"),
        ),
        object,
    ),
}
TEMPLATE: Final = {
    "apiVersion": object,
    "kind": object,
    "metadata": METADATA,
    "spec": SPEC,
    "status": object,
}


def read(source: str, template: Mapping[str, object]) -> Object:
    """The template without what is null in it; raises Rejected where it has not the shape that Kubernetes wants."""
    at_top = [name for name in template if name in SPEC and name not in TEMPLATE]
    if at_top:
        raise _refused(source, at_top[0], "it belongs below `spec`", f"write spec.{at_top[0]}")
    found = _object(source, "", dict(template), TEMPLATE)
    for name, right in (("apiVersion", ("v1",)), ("kind", ("Pod", "PodTemplate"))):
        if name in found and found[name] not in right:
            raise _refused(source, name, f"{found[name]!r} is no pod", f"write {right[0]}")
    return found


def _value(  # noqa: PLR0911 - one case for each kind of shape
    source: str, path: str, value: object, shape: object
) -> object:
    match shape:
        case type() if shape is object:
            return value
        case type():
            return _plain(source, path, value, shape)
        case Either():
            if isinstance(value, bool) or not isinstance(value, (int, str)):
                raise _refused(source, path, f"a number or a text is wanted, not {_kind(value)}")
            return value
        case Quantity():
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                raise _refused(source, path, f"an amount is wanted, not {_kind(value)}")
            grammar.quantity(f"{source}: {path}", str(value))
            return str(value)
        case [inner]:
            if not isinstance(value, (list, tuple)):
                raise _refused(source, path, f"a list is wanted, not {_kind(value)}")
            return [_value(source, f"{path}[{at}]", each, inner) for at, each in enumerate(value)]
        case Map(of=inner):
            wanted = _mapping(source, path, value)
            return {
                key: _value(source, f"{path}[{key}]", each, inner)
                for key, each in wanted.items()
                if each is not None
            }
        case dict():
            return _object(source, path, value, shape)
        case _:  # pragma: no cover - the tables above hold nothing else
            raise AssertionError(shape)


def _plain(source: str, path: str, value: object, shape: type) -> object:
    if isinstance(value, shape) and isinstance(value, bool) == (shape is bool):
        return value
    wanted = {str: "a text", int: "a whole number", bool: "true or false"}[shape]
    raise _refused(source, path, f"{wanted} is wanted, not {_kind(value)}")


def _object(source: str, path: str, value: object, shape: Mapping[str, object]) -> Object:
    fields = {name.rstrip("!"): each for name, each in shape.items()}
    found: Object = {}
    for name, each in _mapping(source, path, value).items():
        inner = f"{path}.{name}" if path else name
        if name not in fields:
            near = suggest.nearest(name, fields)
            hint = f"did you mean {near}?" if near else f"it can have: {', '.join(sorted(fields))}"
            raise _refused(source, inner, "there is no such field", hint)
        if each is not None:
            found[name] = _value(source, inner, each, fields[name])
    for name in shape:
        if name.endswith("!") and name.rstrip("!") not in found:
            raise _refused(source, path, f"{name.rstrip('!')} is missing")
    return found


def _mapping(source: str, path: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _refused(source, path, f"an object is wanted, not {_kind(value)}")
    for key in value:
        if not isinstance(key, str):
            raise _refused(source, path, f"the key {key!r} is no text", "put it into quotes")
    return value


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return repr(value if len(value) <= 40 else f"{value[:40]}...")
        case list() | tuple():
            return "a list"
        case _:
            return "an object"


def _refused(source: str, path: str, problem: str, hint: str = "") -> Rejected:
    where = f"{source}: {path}" if path else source
    return Rejected(f"{where}: {problem}", code="invalid", hint=hint or f"correct it in {source}")
