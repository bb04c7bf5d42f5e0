"""What people add to the pods of places: merging templates, and taking out what is not theirs to say.

Rule: pure. What would break the restricted profile, who the pod is, or how its death is decided, is left out and reported in
words; everything else reaches the pod as it was written.

How two of them are merged (a part of Kubernetes' own strategic merge): objects field by field; lists of things with a name
(containers, volumes, env, pull secrets, gates, claims) by that name, mounts by path, ports by number; tolerations, envFrom and
spread constraints are appended; any other value of the second replaces that of the first. null means: not set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from oj_daemon.adapters.kubernetes import grammar, shapes
from oj_daemon.errors import Rejected

Object = dict[str, Any]
Note = Callable[[str, str], None]
"""Reports a path that was left out, and why."""

RESERVED_PREFIX: Final = "oj.dev/"
AGENT: Final = "agent"
"""The container of the sidecar, whose end is the end of the place."""
INIT: Final = ("clone", "checkout")
"""Init containers that fill the workspace."""
FILES: Final = "/etc/oj"
"""Where our Secrets are mounted."""
OUR_SECRETS: Final = re.compile(r"oj-(job|crw|agt)-.*|oj-daemon.*")
"""Secrets of the daemon and of places, tokens and keys of others among them."""
OUR_VARIABLES: Final = re.compile(r"OJ_SIDECAR_.*|GIT_SSH_COMMAND|GIT_ALLOW_PROTOCOL")

_KEYS: Final = {
    **dict.fromkeys(
        (
            *("containers", "initContainers", "volumes", "env", "imagePullSecrets"),
            *("schedulingGates", "resourceClaims"),
        ),
        "name",
    ),
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "hostAliases": "ip",
}
_WHOLE: Final = ("env", "volumes")
"""Lists whose things have one value from one source, so that one of another kind cannot be mixed into it."""
_APPENDED: Final = ("tolerations", "envFrom", "topologySpreadConstraints")

_NODE: Final = "a place has no access to its node"
_NO_TOKEN: Final = "a place has no rights in the cluster"  # noqa: S105 - a sentence
_SPEC: Final = {
    **dict.fromkeys(("hostIPC", "hostNetwork", "hostPID", "hostUsers"), _NODE),
    "automountServiceAccountToken": _NO_TOKEN,
    "enableServiceLinks": "the variables of services would be called like settings of oj",
    "ephemeralContainers": "Kubernetes takes none in a new pod",
    "evictionResponders": "oj decides what happens to a place that is evicted",
    "nodeName": "the scheduler chooses the node; use nodeSelector or affinity",
    "os": "places run on Linux",
    "overhead": "it comes with the runtime class",
    "priority": "it comes with priorityClassName",
    "readinessGates": "nobody would ever set their conditions",
    "resources": "write resources at the containers",
    "restartPolicy": "oj decides what is started again",
    "schedulingGroup": "a place is scheduled alone",
    "serviceAccount": "write serviceAccountName",
    "shareProcessNamespace": "containers would see the agent's credentials",
    **dict.fromkeys(
        ("hostname", "hostnameOverride", "setHostnameAsFQDN", "subdomain"),
        "the certificate of the place is made for the name of its pod",
    ),
}
_OF_HANDLER: Final = {
    "host": "probes and hooks reach their own pod only",
    "stopSignal": "a container of a place is told to end by SIGTERM",
}
_OWN: Final = {
    "image": "it comes from `container { image }`",
    "command": "the sidecar is what runs in it",
    "args": "the sidecar is what runs in it",
    "workingDir": "it is the workspace",
    "restartPolicy": "oj decides what is started again",
    **dict.fromkeys(
        ("startupProbe", "readinessProbe", "livenessProbe"), "the sidecar says how it is"
    ),
}
"""Fields of our own containers that are not for templates."""
_OF_POD: Final = {"runAsUser": int, "runAsGroup": int, "fsGroup": int}
_OF_CONTAINER: Final = {"runAsUser": int, "runAsGroup": int, "readOnlyRootFilesystem": bool}
"""What may be chosen in a security context."""
CONTEXT: Final = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""The security context of every container, together with that of the pod."""
_PROFILE: Final = {
    **CONTEXT,
    "privileged": False,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What changes nothing when a template says it as well."""
_RESTRICTED: Final = "places keep to the restricted profile of Pod Security"


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> Object:
    """The second on top of the first."""
    merged: Object = dict(first)
    for name, value in second.items():
        held = merged.get(name)
        if isinstance(value, Mapping) and isinstance(held, Mapping):
            merged[name] = merge(held, value)
        elif isinstance(value, list) and isinstance(held, list) and name in _KEYS:
            merged[name] = _by_key(held, value, _KEYS[name], is_whole=name in _WHOLE)
        elif isinstance(value, list) and isinstance(held, list) and name in _APPENDED:
            merged[name] = [*held, *(each for each in value if each not in held)]
        else:
            merged[name] = value
    return merged


def read(templates: Iterable[tuple[str, Mapping[str, object]]]) -> Object:
    """All templates as one, later ones on top; each with the words that say where it was written."""
    merged: Object = {}
    for source, template in templates:
        found = shapes.read(source, template)
        _check(source, found)
        merged = merge(merged, found)
    return merged


def take_out(template: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[Object, list[str]]:
    """The template without what is not its to say, given our pod; and what that was."""
    reports: list[str] = []

    def note(path: str, why: str) -> None:
        reports.append(f"{path}: left out, {why}")

    metadata, spec = template.get("metadata", {}), template.get("spec", {})
    clean = {
        "metadata": _metadata(metadata, ours["metadata"], note),
        "spec": _pod_spec(spec, ours["spec"], note),
    }
    return clean, reports


def _by_key(first: list[Any], second: list[Any], key: str, *, is_whole: bool) -> list[Any]:
    merged = list(first)
    places = {each.get(key): at for at, each in enumerate(merged)}
    for each in second:
        at = places.get(each.get(key))
        if at is None:
            places[each.get(key)] = len(merged)
            merged.append(each)
        else:
            merged[at] = each if is_whole else merge(merged[at], each)
    return merged


# -- what cannot be, whatever is merged with it ---------------------------------------------------------------------------


def _check(source: str, template: Object) -> None:
    metadata, spec = template.get("metadata", {}), template.get("spec", {})
    for name, value in metadata.get("labels", {}).items():
        grammar.key(f"{source}: label", name)
        grammar.label(f"{source}: label {name}", value)
    for name in metadata.get("annotations", {}):
        grammar.key(f"{source}: annotation", name)
    for name, value in spec.get("nodeSelector", {}).items():
        grammar.key(f"{source}: nodeSelector", name)
        grammar.label(f"{source}: nodeSelector {name}", value)
    for name in ("priorityClassName", "runtimeClassName", "serviceAccountName"):
        if name in spec:
            grammar.subdomain(f"{source}: {name}", spec[name])
    for each in spec.get("imagePullSecrets", ()):
        grammar.subdomain(f"{source}: imagePullSecrets", each.get("name", ""))
    _check_names(source, "spec.volumes", spec.get("volumes", []))
    both = [*spec.get("containers", []), *spec.get("initContainers", [])]
    _check_names(source, "spec.containers and initContainers", both)
    for container in both:
        where = f"{source}: container {container['name']}"
        if "image" in container:
            grammar.image(where, container["image"])
        names = [each["name"] for each in container.get("env", ())]
        for name in names:
            if names.count(name) > 1:
                raise _refused(f"{where}: the variable {name} is set twice", "remove one")


def _check_names(source: str, path: str, things: list[Any]) -> None:
    names = [grammar.name(f"{source}: {path}", each["name"]) for each in things]
    for name in names:
        if names.count(name) > 1:
            raise _refused(f"{source}: {path}: two are called {name}", "give one another name")


# -- what is ours ---------------------------------------------------------------------------------------------------------


def _metadata(metadata: Mapping[str, Any], ours: Mapping[str, Any], note: Note) -> Object:
    clean: Object = {}
    for name in ("labels", "annotations"):
        kept = {}
        for key, value in metadata.get(name, {}).items():
            path, held = f"metadata.{name}[{key}]", ours[name].get(key)
            if key.startswith(RESERVED_PREFIX) or (name == "labels" and held is not None):
                if value != held:
                    note(path, "that is how oj knows its pods")
            elif name == "annotations" and _is_apparmor_off(key, value):
                note(path, _RESTRICTED)
            else:
                kept[key] = value
        if kept:
            clean[name] = kept
    for name, value in metadata.items():
        if name not in ("labels", "annotations") and value != ours.get(name):
            note(f"metadata.{name}", "oj gives its pods their identity")
    return clean


def _is_apparmor_off(key: str, value: str) -> bool:
    return "apparmor" in key and value != "runtime/default" and not value.startswith("localhost/")


def _pod_spec(spec: Mapping[str, Any], ours: Mapping[str, Any], note: Note) -> Object:
    volumes = _volumes(spec.get("volumes", []), ours, note)
    own = {each["name"]: each for each in [*ours["containers"], *ours.get("initContainers", ())]}
    visible = {each["name"] for each in [*volumes, *ours["volumes"]]}
    dropped = {each["name"] for each in spec.get("volumes", ())} - visible
    around = (own, ours, visible, dropped)
    clean: Object = {}
    for name, value in spec.items():
        if name in _SPEC:
            if value != ours.get(name):
                note(f"spec.{name}", _SPEC[name])
        elif name == "securityContext":
            context = _context("spec.securityContext", value, ours[name], _OF_POD, note)
            if context:
                clean[name] = context
        elif name == "volumes":
            clean[name] = volumes
        elif name in ("containers", "initContainers"):
            kept = [
                _container(f"spec.{name}[{each['name']}]", name, each, around, note)
                for each in value
                if _is_in_its_list(name, each, ours, note)
            ]
            if kept:
                clean[name] = kept
        else:
            clean[name] = value
    return clean


def _is_in_its_list(kind: str, container: Object, ours: Mapping[str, Any], note: Note) -> bool:
    """Our own names stay where they are; what is meant for a clone needs one."""
    name = container["name"]
    if name not in (AGENT, *INIT):
        return True
    if (kind == "containers") != (name == AGENT):
        note(f"spec.{kind}[{name}]", "the name belongs to a container of oj")
        return False
    return name in {each["name"] for each in ours.get(kind, ())}


def _context(path: str, given: object, ours: Mapping[str, Any], free: Object, note: Note) -> Object:
    """What may be chosen: users and groups other than root, and a root file system that cannot be written."""
    if not isinstance(given, Mapping):
        note(path, "it is no object")
        return {}
    kept: Object = {}
    for name, value in given.items():
        if type(value) is free.get(name) and (value > 0 or isinstance(value, bool)):
            kept[name] = value
        elif value is not None and value != ours.get(name):
            note(f"{path}.{name}", _RESTRICTED)
    return kept


def _volumes(volumes: list[Any], ours: Mapping[str, Any], note: Note) -> list[Object]:
    own = {each["name"] for each in ours["volumes"]}
    kept = []
    for volume in volumes:
        path, name = f"spec.volumes[{volume['name']}]", volume["name"]
        others = volume.keys() & set(shapes.OTHER_SOURCES)
        if name in own:
            note(path, "the name belongs to a volume of oj")
        elif others:
            note(path, f"{min(others)} is not allowed, {_RESTRICTED}")
        elif len(volume) != 2:
            raise _refused(f"{path}: one source is wanted", f"one of {', '.join(shapes.SOURCES)}")
        elif _is_our_secret(volume):
            note(path, "Secrets of the daemon and of places are theirs alone")
        elif any("serviceAccountToken" in each for each in _projected(volume)):
            note(path, _NO_TOKEN)
        else:
            kept.append(volume)
    return kept


def _projected(volume: Object) -> list[Any]:
    return list(volume.get("projected", {}).get("sources", ()))


def _is_our_secret(volume: Object) -> bool:
    names = [
        volume.get("secret", {}).get("secretName", ""),
        volume.get("csi", {}).get("nodePublishSecretRef", {}).get("name", ""),
        *(each.get("secret", {}).get("name", "") for each in _projected(volume)),
    ]
    return any(OUR_SECRETS.fullmatch(name) for name in names)


_Around = tuple[dict[str, Object], Mapping[str, Any], set[str], set[str]]
"""Our containers by name, our pod, the volumes there are, and those that were left out."""


def _container(path: str, kind: str, given: Object, around: _Around, note: Note) -> Object:
    own, pod, visible, dropped = around
    held = own.get(given["name"])
    known = held or {}
    clean: Object = {}
    for name, value in given.items():
        where = f"{path}.{name}"
        why = _not_for(name, value, kind, is_ours=held is not None)
        if why:
            if value != known.get(name):
                note(where, why)
        elif name == "securityContext":
            clean[name] = _context(where, value, _PROFILE, _OF_CONTAINER, note)
        elif name == "env":
            clean[name] = _env(where, value, known, note)
        elif name == "envFrom":
            clean[name] = _env_from(where, value, note)
        elif name == "ports":
            clean[name] = _ports(where, value, known, note)
        elif name == "volumeMounts":
            clean[name] = _mounts(where, value, known, (pod, visible, dropped), note)
        elif name == "lifecycle" or name.endswith("Probe"):
            clean[name] = _without_host(where, value, note)
        else:
            clean[name] = value
    if held is None and "image" not in clean:
        raise _refused(f"{path}: it has no image", "write image, or the name of our own container")
    return clean


def _not_for(name: str, value: object, kind: str, *, is_ours: bool) -> str:
    """Why a field of a container is not for templates; empty: it is."""
    if is_ours and name in _OWN:
        return _OWN[name]
    if name == "restartPolicy" and (kind == "containers" or value != "Always"):
        return _OWN[name]
    if name in ("volumeDevices", "resizePolicy", "restartPolicyRules"):
        return "places have no use for it"
    return ""


def _env(path: str, given: list[Any], held: Mapping[str, Any], note: Note) -> list[Object]:
    own = {each["name"]: each for each in held.get("env", ())}
    kept = []
    for each in given:
        where = f"{path}[{each['name']}]"
        secret = each.get("valueFrom", {}).get("secretKeyRef", {}).get("name", "")
        if each["name"] in own or OUR_VARIABLES.fullmatch(each["name"]):
            if each != own.get(each["name"]):
                note(where, "oj sets this variable itself")
        elif OUR_SECRETS.fullmatch(secret):
            note(where, "Secrets of the daemon and of places are theirs alone")
        else:
            kept.append(each)
    return kept


def _env_from(path: str, given: list[Any], note: Note) -> list[Object]:
    kept = []
    for at, each in enumerate(given):
        if OUR_SECRETS.fullmatch(each.get("secretRef", {}).get("name", "")):
            note(f"{path}[{at}]", "Secrets of the daemon and of places are theirs alone")
        else:
            kept.append(each)
    return kept


def _ports(path: str, given: list[Any], held: Mapping[str, Any], note: Note) -> list[Object]:
    own = {each["containerPort"] for each in held.get("ports", ())}
    kept = []
    for each in given:
        where = f"{path}[{each['containerPort']}]"
        if each["containerPort"] in own:
            note(where, "it is the port of the sidecar")
            continue
        for name in ("hostPort", "hostIP"):
            if name in each:
                note(f"{where}.{name}", _NODE)
        kept.append({name: value for name, value in each.items() if not name.startswith("host")})
    return kept


def _mounts(
    path: str,
    given: list[Any],
    held: Mapping[str, Any],
    around: tuple[Mapping[str, Any], set[str], set[str]],
    note: Note,
) -> list[Object]:
    pod, visible, dropped = around
    taken = {each["mountPath"] for each in held.get("volumeMounts", ())}
    secret = {each["name"] for each in pod["volumes"] if "secret" in each}
    kept = []
    for each in given:
        at, name = each["mountPath"], each["name"]
        where, folder = f"{path}[{at}]", at.rstrip("/") or "/"
        if name in dropped:
            note(where, f"there is no volume {name} any more")
        elif name in secret:
            note(where, "Secrets of the daemon and of places are theirs alone")
        elif folder in taken or folder == FILES or folder.startswith(f"{FILES}/"):
            note(where, "something of oj is mounted there")
        elif name not in visible:
            raise _refused(f"{where}: there is no volume {name}", "add it to spec.volumes")
        else:
            for odd in ("mountPropagation", "subPathExpr", "recursiveReadOnly"):
                if odd in each:
                    note(f"{where}.{odd}", "places have no use for it")
            plain = ("name", "mountPath", "readOnly", "subPath")
            kept.append({field: each[field] for field in plain if field in each})
    return kept


def _without_host(path: str, given: Object, note: Note) -> Object:
    """Probes and hooks, without what is not for them."""
    clean: Object = {}
    for name, value in given.items():
        if name in _OF_HANDLER:
            note(f"{path}.{name}", _OF_HANDLER[name])
        elif isinstance(value, dict):
            clean[name] = _without_host(f"{path}.{name}", value, note)
        else:
            clean[name] = value
    return clean


def _refused(message: str, hint: str) -> Rejected:
    return Rejected(message, code="invalid", hint=hint)
