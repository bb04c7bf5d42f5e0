"""Whether a pod keeps to the `restricted` profile of the Pod Security Standards, and to what `oj` asks beyond it.

Rule: one line for each violation, with the name of the container; an empty list is a pod that every restricted namespace takes.
`strict` adds our own rules: a fixed user, requests and limits everywhere, no rights by chance (kubernetes.md 1 and 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC")
VOLUMES = frozenset({
    "name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
})  # fmt: skip
"""Volume types of the restricted profile, and the name that each volume has."""
SECCOMP = ("RuntimeDefault", "Localhost")
SYSCTLS = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
})  # fmt: skip
SELINUX = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")


def violations(spec: Object, annotations: Object | None = None) -> list[str]:
    """What the restricted profile forbids in this pod spec."""
    return [*_of_pod(spec, annotations or {}), *_of_containers(spec)]


def strict_violations(spec: Object, annotations: Object | None = None) -> list[str]:
    """The same, and what `oj` does not allow itself."""
    return [*violations(spec, annotations), *_beyond(spec)]


def containers(spec: Object) -> list[Object]:
    """All containers of a pod."""
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [each for kind in kinds for each in spec.get(kind, ())]


def _of_pod(spec: Object, annotations: Object) -> Iterator[str]:
    yield from (f"pod: {field}" for field in HOST_FIELDS if spec.get(field))
    for volume in spec.get("volumes", ()):
        yield from (f"volume {volume['name']}: {kind}" for kind in volume.keys() - VOLUMES)
    context = spec.get("securityContext", {})
    yield from _of_context("pod", context)
    for sysctl in context.get("sysctls", ()):
        if sysctl["name"] not in SYSCTLS:
            yield f"pod: sysctl {sysctl['name']}"
    for name, value in annotations.items():
        if "apparmor" in name and value != "runtime/default" and not value.startswith("localhost/"):
            yield f"pod: annotation {name}"


def _of_containers(spec: Object) -> Iterator[str]:
    pod = spec.get("securityContext", {})
    for container in containers(spec):
        name, own = f"container {container['name']}", container.get("securityContext", {})
        yield from _of_context(name, own)
        if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
            yield f"{name}: runAsNonRoot is not true"
        profile = own.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
        if profile not in SECCOMP:
            yield f"{name}: seccompProfile is {profile}"
        if own.get("privileged"):
            yield f"{name}: privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation is not false"
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", ()):
            yield f"{name}: capabilities do not drop ALL"
        for added in capabilities.get("add", ()):
            if added != "NET_BIND_SERVICE":
                yield f"{name}: capability {added}"
        if own.get("procMount", "Default") != "Default":
            yield f"{name}: procMount {own['procMount']}"
        for port in container.get("ports", ()):
            if port.get("hostPort"):
                yield f"{name}: hostPort {port['hostPort']}"
        yield from _of_handlers(name, container)


def _of_context(name: str, context: Object) -> Iterator[str]:
    """What holds for the context of the pod and of each container."""
    if context.get("runAsNonRoot") is False:
        yield f"{name}: runAsNonRoot is false"
    if context.get("runAsUser") == 0:
        yield f"{name}: runAsUser is 0"
    if context.get("seccompProfile", {}).get("type") == "Unconfined":
        yield f"{name}: seccompProfile is Unconfined"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield f"{name}: appArmorProfile is Unconfined"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{name}: hostProcess"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield f"{name}: seLinuxOptions"


def _of_handlers(name: str, container: Object) -> Iterator[str]:
    """Probes and hooks may not name another host."""
    hooks = container.get("lifecycle", {})
    probes = {kind: container.get(kind) for kind in ("startupProbe", "readinessProbe", "livenessProbe")}  # fmt: skip
    for kind, handler in {**hooks, **probes}.items():
        for how in ("httpGet", "tcpSocket"):
            if ((handler or {}).get(how) or {}).get("host"):
                yield f"{name}: {kind} names a host"


def _beyond(spec: Object) -> Iterator[str]:
    pod = spec.get("securityContext", {})
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        if not pod.get(field):
            yield f"pod: {field} is not fixed"
    if spec.get("enableServiceLinks") is not False:
        yield "pod: enableServiceLinks is not false"
    if "automountServiceAccountToken" not in spec:
        yield "pod: automountServiceAccountToken is left to chance"
    for container in containers(spec):
        name = f"container {container['name']}"
        for kind in ("requests", "limits"):
            for what in ("cpu", "memory"):
                if what not in container.get("resources", {}).get(kind, {}):
                    yield f"{name}: no {kind} of {what}"
