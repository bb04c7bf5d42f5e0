"""Whether an object is one that Kubernetes knows, without a cluster: by the models that its client generates from the API.

Rule: what the API server would drop or refuse because of its shape is reported, each problem with its path: unknown fields,
missing ones, wrong types. What a field may contain (names, quantities) is not in these models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kubernetes.client import models

PLAIN: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "bytes": str,
    "datetime": str,
}
KINDS: dict[tuple[object, object], str] = {
    ("v1", "Namespace"): "V1Namespace",
    ("v1", "ServiceAccount"): "V1ServiceAccount",
    ("v1", "Secret"): "V1Secret",
    ("v1", "ConfigMap"): "V1ConfigMap",
    ("v1", "PersistentVolumeClaim"): "V1PersistentVolumeClaim",
    ("v1", "Service"): "V1Service",
    ("v1", "Pod"): "V1Pod",
    ("v1", "Event"): "CoreV1Event",
    ("apps/v1", "StatefulSet"): "V1StatefulSet",
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
    ("rbac.authorization.k8s.io/v1", "Role"): "V1Role",
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): "V1RoleBinding",
    ("coordination.k8s.io/v1", "Lease"): "V1Lease",
}
"""The model of each kind that `oj` makes."""


def problems(thing: dict[str, Any]) -> list[str]:
    """Everything that is wrong with the shape of one object."""
    kind = (thing.get("apiVersion"), thing.get("kind"))
    name = KINDS.get(kind)
    if name is None:
        return [f"kind: {kind} is not known here"]
    if not (thing.get("metadata") or {}).get("name"):
        return ["metadata.name: missing"]
    return [*_of_model(name, thing, "")]


def _of_model(name: str, value: object, path: str) -> Iterator[str]:
    model = getattr(models, name)
    if not isinstance(value, dict):
        yield f"{path or name}: expected {name}, found {value!r}"
        return
    fields = {wire: field for field, wire in model.attribute_map.items()}
    # A field called like a word of Python has another name in the model, but the same on the wire.
    needed = {
        field.serialization_alias or name
        for name, field in model.model_fields.items()
        if field.is_required()
    }
    dot = f"{path}." if path else ""
    for key in value:
        if key not in fields:
            yield f"{dot}{key}: {name} has no such field"
    for wire, field in fields.items():
        if wire in value:
            yield from _of_type(model.openapi_types[field], value[wire], f"{dot}{wire}")
        elif wire in needed:
            yield f"{dot}{wire}: missing, {name} needs it"


def _of_type(kind: str, value: object, path: str) -> Iterator[str]:
    if match := re.fullmatch(r"List\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{path}: expected a list, found {value!r}"
            return
        for at, each in enumerate(value):
            yield from _of_type(match[1], each, f"{path}[{at}]")
    elif match := re.fullmatch(r"Dict\[str, (.+)\]", kind):
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            yield f"{path}: expected a mapping of texts, found {value!r}"
            return
        for key, each in value.items():
            yield from _of_type(match[1], each, f"{path}[{key}]")
    elif kind == "object":  # any value: a number or a name, raw JSON
        if value is None:
            yield f"{path}: expected a value"
    elif kind in PLAIN:
        is_bool = isinstance(value, bool)
        if not isinstance(value, PLAIN[kind]) or is_bool != (kind == "bool"):
            yield f"{path}: expected {kind}, found {value!r}"
    else:
        yield from _of_model(kind, value, path)
