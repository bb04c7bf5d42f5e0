"""The daemon as a pod: what `oj daemon manifest` prints, to be applied as it is.

Rule: pure. Options in, Kubernetes objects as plain dictionaries out. Whatever the daemon is to do is named by variable, so that
nothing falls back in production (kubernetes.md 1); no secret stands in a pod, only the name of the Secret it is mounted from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, Final

from oj_daemon.manifest.options import MOUNTED_ONCE, TLS_VOLUME, TOKEN_KEY, Options, check
from oj_daemon.settings import HTTP_PORT, TCP_PORT

Object = dict[str, Any]

UID: Final = 65532
STATE: Final = "/var/lib/oj"
MOUNTS: Final = "/etc/oj"
PLACE_PORT: Final = 8080
"""Where the sidecar of a place listens (kubernetes.md 2)."""
PLACES: Final = {"app": "oj-agent"}
"""Label of every place pod."""
OUTSIDE: Final = (443, 22)
"""Ports that daemon and places may reach anywhere: HTTPS and git over SSH."""
API_SERVER: Final = 6443
"""Where most API servers listen behind port 443 of their Service; some networks check the port behind it."""
MARGIN_SECONDS: Final = 15
"""What a pod gets on top of its drain before it is killed."""
SHARED: Final = "ReadWriteMany"


def objects(options: Options) -> list[Object]:
    """All objects in the order in which they have to be made; raises Rejected for options that cannot work."""
    check(options)
    return [*_objects(options)]


def render(made: Sequence[Object]) -> str:
    """The objects as one YAML text."""
    import yaml  # noqa: PLC0415 - nobody else of the daemon needs it

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - what is said twice is written twice
            return True

    return yaml.dump_all(made, Dumper=Plain, sort_keys=False, explicit_start=True)


def as_list(made: Sequence[Object]) -> Object:
    """The objects as one object, for JSON."""
    return {"apiVersion": "v1", "kind": "List", "items": [*made]}


def _objects(options: Options) -> Iterator[Object]:
    if options.create_namespace:
        yield _namespace(options)
    yield _object(options, "v1", "ServiceAccount", automountServiceAccountToken=False)
    yield _object(options, "rbac.authorization.k8s.io/v1", "Role", rules=_rules(options))
    yield _role_binding(options)
    if options.token:
        yield _object(
            options,
            "v1",
            "Secret",
            options.token_from,
            type="Opaque",
            stringData={TOKEN_KEY: options.token.reveal()},
        )
    if options.agent_pod_template:
        yield _object(
            options,
            "v1",
            "ConfigMap",
            f"{options.name}-agent-pod",
            data={"pod.yaml": options.agent_pod_template},
        )
    if options.replicas > 1:
        yield _object(
            options, "v1", "PersistentVolumeClaim", f"{options.name}-state", spec=_claim(options)
        )
    yield from _network_policies(options)
    yield _service(options)
    yield _stateful_set(options)


def _object(options: Options, version: str, kind: str, name: str = "", **content: Any) -> Object:  # noqa: ANN401 - what objects are made of
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": name or options.name,
            "namespace": options.namespace,
            "labels": {**options.labels, "app.kubernetes.io/part-of": "oj"},
        },
        **content,
    }


def _namespace(options: Options) -> Object:
    made = _object(options, "v1", "Namespace", options.namespace)
    del made["metadata"]["namespace"]
    # Daemon and places keep to it, so nothing that got in otherwise may do more.
    made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    return made


def _rules(options: Options) -> list[Object]:
    """The rights of kubernetes.md 1: one namespace, nothing that runs a command in a pod, no reading of Secrets."""
    leases = _rule("coordination.k8s.io", "leases", "create get update")
    if options.runtime == "local":
        return [leases]
    return [
        _rule("", "pods", "create get list watch delete"),
        _rule("", "pods/log", "get"),
        _rule("", "secrets", "create patch delete"),
        _rule("", "events", "create patch list"),
        leases,
    ]


def _rule(group: str, resource: str, verbs: str) -> Object:
    return {"apiGroups": [group], "resources": [resource], "verbs": verbs.split()}


def _role_binding(options: Options) -> Object:
    return _object(
        options,
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        roleRef={
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": options.name,
        },
        subjects=[{"kind": "ServiceAccount", "name": options.name, "namespace": options.namespace}],
    )


def _network_policies(options: Options) -> Iterator[Object]:
    daemon = {"podSelector": {"matchLabels": options.labels}}
    places = {"podSelector": {"matchLabels": PLACES}}
    to_places = (
        [{"to": [places], "ports": _ports(PLACE_PORT)}] if options.runtime != "local" else []
    )
    yield _object(
        options,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        spec={
            **daemon,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": _ports(TCP_PORT, HTTP_PORT)}],
            "egress": [
                _dns(),
                {"ports": _ports(*OUTSIDE, API_SERVER, *options.egress_ports)},
                *to_places,
            ],
        },
    )
    if options.runtime == "local":
        return
    yield _object(
        options,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        f"{options.name}-agents",
        spec={
            **places,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [daemon], "ports": _ports(PLACE_PORT)}],
            "egress": [
                _dns(),
                {"to": [daemon], "ports": _ports(TCP_PORT)},
                {"ports": _ports(*OUTSIDE, *options.agent_egress_ports)},
            ],
        },
    )


def _dns() -> Object:
    return {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}


def _ports(*numbers: int) -> list[Object]:
    return [{"protocol": "TCP", "port": number} for number in dict.fromkeys(numbers)]


def _service(options: Options) -> Object:
    ports = [{"name": "oj", "port": TCP_PORT, "targetPort": "oj", "protocol": "TCP"}]
    if options.service_type == "ClusterIP":  # figures stay inside of the cluster
        ports.append({"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"})
    return _object(
        options,
        "v1",
        "Service",
        spec={"type": options.service_type, "selector": options.labels, "ports": ports},
    )


def _stateful_set(options: Options) -> Object:
    template = {
        "metadata": {"labels": {**options.labels, "app.kubernetes.io/part-of": "oj"}},
        "spec": _pod(options),
    }
    if options.token:
        # A daemon reads its token once, so another token has to mean another pod. A few digits tell nothing about it.
        digest = sha256(options.token.reveal().encode()).hexdigest()[:8]
        template["metadata"]["annotations"] = {"oj.dev/token-version": digest}
    spec: Object = {
        "replicas": options.replicas,
        "serviceName": options.name,
        # In order, no standby would be made (the one before it is not ready), nor a pod replaced that never became ready.
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": options.labels},
        "template": template,
    }
    if options.replicas > 1:
        # A standby is never ready, so a rolling update would wait for it for good.
        spec["updateStrategy"] = {"type": "OnDelete"}
    else:
        spec |= {
            "updateStrategy": {"type": "RollingUpdate"},
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Retain",
                "whenScaled": "Retain",
            },
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "state", "labels": options.labels},
                    "spec": _claim(options),
                }
            ],
        }
    return _object(options, "apps/v1", "StatefulSet", spec=spec)


def _claim(options: Options) -> Object:
    mode = options.access_mode or (SHARED if options.replicas > 1 else MOUNTED_ONCE[0])
    spec: Object = {
        "accessModes": [mode],
        "resources": {"requests": {"storage": options.storage_size}},
    }
    return spec | ({"storageClassName": options.storage_class} if options.storage_class else {})


def _pod(options: Options) -> Object:
    pod: Object = {
        "serviceAccountName": options.name,
        "automountServiceAccountToken": True,
        # The Service's own variables would be called OJ_..., as our settings are.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": options.drain_seconds + MARGIN_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "fsGroup": UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if options.image_pull_secret:
        pod["imagePullSecrets"] = [{"name": options.image_pull_secret}]
    if options.replicas > 1:
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": options.labels},
            }
        ]
    files = [*_files(options)]
    return pod | {
        "containers": [_container(options, [name for name, _ in files])],
        "volumes": [*_state_volume(options), {"name": "tmp", "emptyDir": {}}]
        + [{"name": name, **source} for name, source in files],
    }


def _container(options: Options, mounted: Sequence[str]) -> Object:
    def probe(path: str, period: int, failures: int) -> Object:
        return {
            "httpGet": {"path": path, "port": "http"},
            "periodSeconds": period,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        }

    return {
        "name": "daemon",
        "image": options.image,
        "env": _environment(options),
        "ports": [
            {"name": "oj", "containerPort": TCP_PORT, "protocol": "TCP"},
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
        ],
        "startupProbe": probe("/healthz", 2, 150),
        "livenessProbe": probe("/healthz", 10, 6),
        "readinessProbe": probe("/readyz", 5, 2),
        "resources": {
            "requests": {"cpu": options.cpu_request, "memory": options.memory_request},
            "limits": {"cpu": options.cpu_limit, "memory": options.memory_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "state", "mountPath": STATE},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
        ]
        + [{"name": name, "mountPath": f"{MOUNTS}/{name}", "readOnly": True} for name in mounted],
    }


def _environment(options: Options) -> list[Object]:
    named = {
        "HOME": STATE,
        "OJ_STATE_DIR": STATE,
        "OJ_RUNTIME": options.runtime,
        "OJ_TCP_PORT": str(TCP_PORT),
        "OJ_HTTP_PORT": str(HTTP_PORT),
        "OJ_AUTH_TOKEN_FILE": f"{MOUNTS}/{TOKEN_KEY}/{TOKEN_KEY}",
        "OJ_LEASE": "on",
        "OJ_LEASE_NAME": options.name,
        "OJ_DRAIN_TIMEOUT_MS": str(1000 * options.drain_seconds),
    }
    if options.tls_secret:
        named |= {
            "OJ_TLS_CERT": f"{MOUNTS}/{TLS_VOLUME}/tls.crt",
            "OJ_TLS_KEY": f"{MOUNTS}/{TLS_VOLUME}/tls.key",
        }
    else:
        named["OJ_TLS_NAMES"] = ",".join(_certificate_names(options))
    if options.webhook_secret:
        named["OJ_NOTIFY_WEBHOOK_URL_FILE"] = f"{MOUNTS}/webhook/url"
    if options.webhook_signed:
        named["OJ_NOTIFY_WEBHOOK_SECRET_FILE"] = f"{MOUNTS}/webhook/secret"
    named |= {name: value for name, value in _agent_defaults(options).items() if value}
    downward = {"fieldRef": {"fieldPath": "metadata.name"}}
    return [
        *({"name": name, "value": value} for name, value in named.items()),
        {"name": "OJ_POD_NAME", "valueFrom": downward},
    ]


def _certificate_names(options: Options) -> Iterator[str]:
    service = f"{options.name}.{options.namespace}"
    yield from (options.name, service, f"{service}.svc", f"{service}.svc.cluster.local")
    yield from ("localhost", "127.0.0.1")  # the near end of a forwarded port
    yield from options.tls_names


def _agent_defaults(options: Options) -> dict[str, str]:
    """What kubernetes.md 2 calls OJ_K8S_*; all empty for places of another kind."""
    is_cluster = options.runtime == "kubernetes"
    return {
        "OJ_K8S_IMAGE": options.agent_image,
        # What runs in a pod reaches the daemon by its Service.
        "OJ_K8S_DAEMON_URL": f"tls://{options.name}.{options.namespace}.svc:{TCP_PORT}"
        if is_cluster
        else "",
        "OJ_K8S_PULL_SECRETS": options.image_pull_secret if is_cluster else "",
        "OJ_K8S_CREDENTIAL_SECRET": options.agent_credential_secret,
        "OJ_K8S_SSH_SECRET": options.agent_ssh_secret,
        "OJ_K8S_GIT_SECRET": options.agent_git_secret,
        "OJ_K8S_GIT_URL": options.agent_git_url,
        "OJ_K8S_CPU_REQUEST": options.agent_cpu_request,
        "OJ_K8S_CPU_LIMIT": options.agent_cpu_limit,
        "OJ_K8S_MEMORY_REQUEST": options.agent_memory_request,
        "OJ_K8S_MEMORY_LIMIT": options.agent_memory_limit,
        "OJ_K8S_EPHEMERAL_REQUEST": options.agent_ephemeral_request,
        "OJ_K8S_EPHEMERAL_LIMIT": options.agent_ephemeral_limit,
        "OJ_K8S_POD_TEMPLATE": options.agent_pod_template and f"{MOUNTS}/agent-pod/pod.yaml",
    }


def _state_volume(options: Options) -> list[Object]:
    """Several replicas share one claim; a single one gets its own from the StatefulSet's template."""
    if options.replicas == 1:
        return []
    return [{"name": "state", "persistentVolumeClaim": {"claimName": f"{options.name}-state"}}]


def _files(options: Options) -> Iterator[tuple[str, Object]]:
    """Name and source of each volume of files; only the keys that are meant, readable by our group alone."""
    yield TOKEN_KEY, _secret(options.token_from, TOKEN_KEY)
    if options.tls_secret:
        yield TLS_VOLUME, _secret(options.tls_secret, "tls.crt", "tls.key")
    if options.webhook_secret:
        keys = ("url", "secret") if options.webhook_signed else ("url",)
        yield "webhook", _secret(options.webhook_secret, *keys)
    if options.agent_pod_template:
        yield "agent-pod", {"configMap": {"name": f"{options.name}-agent-pod"}}


def _secret(name: str, *keys: str) -> Object:
    items = [{"key": key, "path": key} for key in keys]
    return {"secret": {"secretName": name, "defaultMode": 0o440, "items": items}}
