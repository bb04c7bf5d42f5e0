"""The pod of a place, and its Secret: from a plan to what is sent to the API server.

Rule: pure. `PodPlan` is plain data and says everything; `build` refuses what cannot work with a sentence, before a cluster
refuses it in its own words. No value becomes program text: git gets its arguments as a list, and every `$` in what we write is
doubled, because Kubernetes would replace `$(NAME)` in commands and variables.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from oj_daemon.adapters.kubernetes import grammar, template
from oj_daemon.adapters.kubernetes.template import AGENT, FILES, RESERVED_PREFIX
from oj_daemon.errors import Rejected
from oj_daemon.settings import Secret

Object = dict[str, Any]

UID: Final = 65532
"""User and group of our images."""
PORT: Final = 8080
HEALTH: Final = "/api/v1/health"
HOME: Final = "/home/oj"
WORKSPACE: Final = "/workspace"
INSTANCE: Final = "oj.dev/instance"
SPAWN: Final = "oj.dev/spawn"
"""Annotation: which order made the pod."""
APP: Final = "oj-agent"
SIDECAR_FILES: Final = f"{FILES}/sidecar"
SSH_FILES: Final = f"{FILES}/ssh"
GIT_FILES: Final = f"{FILES}/git"
TOKEN, KEY, CERTIFICATE, CA, CONFIG = "token", "tls.key", "tls.crt", "ca.crt", "config.json"
"""Keys of the place's Secret, and names of its files."""
GIT_SSH_COMMAND: Final = (
    f"ssh -i {SSH_FILES}/id -o IdentitiesOnly=yes -o BatchMode=yes"
    f" -o StrictHostKeyChecking=yes -o UserKnownHostsFile={SSH_FILES}/known_hosts"
)
ANY_USER: Final = "x-access-token"
"""Who comes with a token, for servers that look at nothing else."""
GIT_HELPER: Final = (
    '!f() { test "$1" = get || exit 0; user=; while IFS== read -r name value; do '
    'test "$name" != username || user=$value; done; cd ' + GIT_FILES + " || exit; "
    "test ! -s username || user=$(cat username); "
    f'printf "username=%s\\npassword=%s\\n" "${{user:-{ANY_USER}}}" "$(cat password)"; }}; f'
)
"""Reads files when git asks it. Whose server it is asked about is said by the name of the setting that it is the value of."""
LARGEST_SECRET: Final = 1024 * 1024
"""Bytes; the API's own limit."""
READABLE: Final = 0o400
"""Of secret files. Kubernetes lets the group of the pod read them as well, which is how a user other than root does."""


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """Resources of a container that asks for none; each set by `OJ_K8S_<NAME>`."""

    cpu_request: str = "250m"
    cpu_limit: str = "2"
    memory_request: str = "512Mi"
    memory_limit: str = "4Gi"
    ephemeral_request: str = "1Gi"
    ephemeral_limit: str = "8Gi"


class Clone(msgspec.Struct, frozen=True, kw_only=True):
    """What the workspace begins with."""

    url: str
    branch: str = ""
    """Branch or tag to check out; empty: the remote's own choice."""
    ref: str = ""
    """Branch, tag or commit to check out then. It may lie anywhere, so everything is fetched."""
    depth: int = 0
    """How many commits are fetched; 0: all."""
    all_branches: bool = False
    image: str = ""
    """Image with git in it; empty: the place's own."""


class KeyOf(msgspec.Struct, frozen=True):
    """One value in a Secret."""

    secret: str
    key: str
    optional: bool = False


class Ssh(msgspec.Struct, frozen=True, kw_only=True):
    """A Secret with a deploy key and the hosts that it may be shown to."""

    secret: str
    key: str = "ssh-privatekey"
    known_hosts: str = "known_hosts"


class GitLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A Secret with `password`, perhaps a token, and perhaps `username`; and the server that they may be shown to."""

    secret: str
    server: str
    """Its URL, as `https://git.example.com`."""


class Probe(msgspec.Struct, frozen=True):
    """How often the sidecar is asked, and how many silences in a row count."""

    period: int
    failures: int
    timeout: int = 5
    delay: int = 0


class Probes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds and counts; None: it is not asked."""

    startup: Probe | None = Probe(2, 150)
    readiness: Probe | None = Probe(5, 3)
    liveness: Probe | None = Probe(30, 10)


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """Where the work lies."""

    path: str = WORKSPACE
    claim: str = ""
    """A volume claim that keeps it; empty: it goes with the pod."""
    size: str = ""
    """The most that it may hold, when it goes with the pod."""


class PodPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one place."""

    name: str
    """Of the pod and of its Secret: `oj-` and the id of the owner."""
    namespace: str
    instance: str
    """UUID of the daemon's state; whatever carries another one is not ours."""
    project: str = ""
    job_id: str = ""
    crew_id: str = ""
    agent_id: str = ""
    spawn: str = ""
    """Which order makes it: a pod of another one is not adopted."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    image: str
    pull_policy: str = ""
    pull_secrets: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    """Instead of the image's entry point, which is `oj-sidecar`."""
    args: tuple[str, ...] = ()
    """Of the sidecar."""
    clone: Clone | None = None

    env: dict[str, str] = {}
    secret_env: dict[str, KeyOf] = {}
    """Variables from Secrets that exist."""
    private_env: tuple[str, ...] = ()
    """Variables whose values `build_secret` gets."""
    credential_secret: str = ""
    credential_names: tuple[str, ...] = ()
    """Variables that the agent's driver proves with who pays; the ones that the Secret has are set."""
    has_config: bool = False
    """`build_secret` gets the sidecar's configuration file."""
    ssh: Ssh | None = None
    git_login: GitLogin | None = None
    """For the clone alone: an agent, which does as texts tell it that it reads, never sees it."""

    cpu: str = ""
    """Requested and limit at once; `requests` and `limits` are more exact and win."""
    memory: str = ""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    defaults: Defaults = Defaults()

    templates: tuple[tuple[str, dict[str, object]], ...] = ()
    """Where it was written, for messages, and the template; later ones on top: OJ_K8S_POD_TEMPLATE, then `container { pod }`."""
    probes: Probes = Probes()
    port: int = PORT
    tls: bool = True
    workspace: Workspace = Workspace()
    user: int = UID
    """User and group; not root."""
    grace_seconds: int = 40
    """The sidecar asks the agent for 20 s, hangs up for 10 s, and has something left to say goodbye."""


class Built(msgspec.Struct, frozen=True):
    """What is sent, and what people have to know about it."""

    pod: Object
    left_out: tuple[str, ...] = ()
    """What a template or the runbook's `env` asked for in vain, each with the reason."""


def build(plan: PodPlan) -> Built:
    """The pod of a place; Rejected for what cannot work."""
    _check(plan)
    written = template.read(plan.templates)
    ours, in_vain = _ours(plan)
    clean, left_out = template.take_out(written, ours)
    pod = template.merge(ours, clean)
    _finish(plan, pod)
    return Built(pod, (*in_vain, *left_out))


def build_secret(  # noqa: PLR0913 - each is one file
    plan: PodPlan,
    token: Secret[str],
    key: Secret[str],
    certificate: str,
    ca: str,
    *,
    env: Mapping[str, Secret[str]] | None = None,
    config: str = "",
) -> Object:
    """The Secret of a place, made before its pod: what proves the sidecar to the daemon and the daemon to the sidecar."""
    values = {name: value.reveal() for name, value in (env or {}).items()}
    if set(values) != set(plan.private_env) or bool(config) != plan.has_config:
        raise Rejected(
            f"make the Secret {plan.name}: its values are not those that the pod will look for",
            code="internal",
            hint="report this as a bug",
        )
    files = {TOKEN: token.reveal(), **_private(values)}
    if plan.tls:
        files |= {KEY: key.reveal(), CERTIFICATE: certificate, CA: ca}
    if config:
        files[CONFIG] = config
    data = {name: text.encode() for name, text in files.items()}
    if sum(map(len, data.values())) > LARGEST_SECRET:
        raise Rejected(
            f"make the Secret {plan.name}: what the agent is told is larger than a Secret may be, 1 MiB",
            code="invalid",
            hint="shorten the prompt: let it name files in the workspace",
        )
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(plan),
        "type": "Opaque",
        "immutable": True,
        "data": {name: base64.b64encode(content).decode() for name, content in data.items()},
    }


def owner_of(pod: Mapping[str, Any]) -> Object:
    """What makes a Secret go together with this pod, whose UID is known."""
    return {
        "metadata": {
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": pod["metadata"]["name"],
                    "uid": pod["metadata"]["uid"],
                    "controller": False,
                    "blockOwnerDeletion": False,
                }
            ]
        }
    }


def stranger(plan: PodPlan, pod: Mapping[str, Any]) -> str:
    """Why the pod that has our name already is not the one of this plan; empty: it is, and can be adopted."""
    metadata = pod.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    for name, value in _identity(plan).items():
        if labels.get(name) != value:
            whose = "another daemon" if name == INSTANCE else "another owner"
            return f"it belongs to {whose}: its label {name} is {labels.get(name)!r}, not {value!r}"
    if annotations.get(SPAWN, "") != plan.spawn:
        return f"another order made it: {annotations.get(SPAWN)!r}, not {plan.spawn!r}"
    if metadata.get("deletionTimestamp"):
        return "it is being deleted"
    return ""


def labels_of(plan: PodPlan) -> dict[str, str]:
    """The labels of everything that belongs to the place."""
    return {
        **plan.labels,
        "app": APP,
        "app.kubernetes.io/name": APP,
        "app.kubernetes.io/managed-by": "oj",
        "app.kubernetes.io/part-of": "oj",
        **_identity(plan),
    }


# -- what we want ---------------------------------------------------------------------------------------------------------


def _identity(plan: PodPlan) -> dict[str, str]:
    project = plan.project if grammar.is_label(plan.project) else _slug(plan.project)
    named = {
        "project": project,
        "job-id": plan.job_id,
        "crew-id": plan.crew_id,
        "agent-id": plan.agent_id,
    }
    owners = {f"{RESERVED_PREFIX}{name}": value for name, value in named.items() if value}
    return {INSTANCE: plan.instance, **owners}


def _slug(text: str) -> str:
    """Something like it that can be a label; the annotation has the whole."""
    plain = "".join(each if each.isascii() and each.isalnum() else "-" for each in text)
    return plain[: grammar.LONGEST_NAME].strip("-")


def _metadata(plan: PodPlan) -> Object:
    own = {
        f"{RESERVED_PREFIX}project": plan.project,
        SPAWN: plan.spawn,
    }
    return {
        "name": plan.name,
        "namespace": plan.namespace,
        "labels": labels_of(plan),
        "annotations": {
            # Work that is not pushed yet is lost with the pod.
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            **plan.annotations,
            **{name: value for name, value in own.items() if value},
        },
    }


def _ours(plan: PodPlan) -> tuple[Object, list[str]]:
    """Our pod before anything is merged into it, and the variables that were asked for in vain."""
    env, in_vain = _environment(plan)
    spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": plan.grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": plan.user,
            "runAsGroup": plan.user,
            "fsGroup": plan.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if plan.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in plan.pull_secrets]
    if plan.clone is not None:
        spec["initContainers"] = [*_clones(plan, plan.clone)]
    spec |= {"containers": [_agent(plan, env)], "volumes": _volumes(plan)}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": _metadata(plan), "spec": spec}
    return pod, in_vain


def _agent(plan: PodPlan, env: list[Object]) -> Object:
    container: Object = {"name": AGENT, "image": plan.image}
    if plan.pull_policy:
        container["imagePullPolicy"] = plan.pull_policy
    for name, words in (("command", plan.command), ("args", plan.args)):
        if words:
            container[name] = [_literal(word) for word in words]
    container |= {
        "workingDir": plan.workspace.path,
        "env": env,
        "ports": [{"name": "sidecar", "containerPort": plan.port, "protocol": "TCP"}],
    }
    for name, probe in (
        ("startupProbe", plan.probes.startup),
        ("readinessProbe", plan.probes.readiness),
        ("livenessProbe", plan.probes.liveness),
    ):
        if probe is not None:
            container[name] = _probe(plan, probe)
    container["securityContext"] = dict(template.CONTEXT)
    sidecar = {"name": "sidecar", "mountPath": SIDECAR_FILES, "readOnly": True}
    container["volumeMounts"] = [*_mounts(plan), sidecar]
    return container


def _probe(plan: PodPlan, probe: Probe) -> Object:
    made: Object = {
        "httpGet": {
            "path": HEALTH,
            "port": "sidecar",
            "scheme": "HTTPS" if plan.tls else "HTTP",
        },
        "periodSeconds": probe.period,
        "timeoutSeconds": probe.timeout,
        "failureThreshold": probe.failures,
    }
    return made | ({"initialDelaySeconds": probe.delay} if probe.delay else {})


def _clones(plan: PodPlan, clone: Clone) -> Iterator[Object]:
    words = ["git", "clone", "--origin", "origin"]
    if clone.branch:
        words += ["--branch", clone.branch]
    if not clone.all_branches and not clone.ref:
        words.append("--single-branch")
    if clone.depth and not clone.ref:
        words += ["--depth", str(clone.depth)]
    yield _git(plan, "clone", [*words, "--", clone.url, plan.workspace.path], _login(plan))
    if clone.ref:
        words = ["git", "-C", plan.workspace.path, "checkout", clone.ref, "--"]
        yield _git(plan, "checkout", words)


def _git(plan: PodPlan, name: str, words: list[str], login: GitLogin | None = None) -> Object:
    base, mounts = _base(plan), _mounts(plan)
    if login is not None:
        base |= _login_settings(login, int(base["GIT_CONFIG_COUNT"]))
        mounts.append({"name": "git", "mountPath": GIT_FILES, "readOnly": True})
    container: Object = {
        "name": name,
        "image": (plan.clone.image if plan.clone else "") or plan.image,
    }
    if plan.pull_policy:
        container["imagePullPolicy"] = plan.pull_policy
    return container | {
        "command": [_literal(word) for word in words],
        "env": [
            *({"name": each, "value": value} for each, value in base.items()),
            {"name": "GIT_TERMINAL_PROMPT", "value": "0"},
            *({"name": each, "value": value} for each, value in _git_access(plan).items()),
        ],
        "securityContext": dict(template.CONTEXT),
        "volumeMounts": mounts,
    }


def _login(plan: PodPlan) -> GitLogin | None:
    """What the clone proves itself with; None where it is one of another server."""
    clone, login = plan.clone, plan.git_login
    if clone is None or login is None or not grammar.is_at(clone.url, login.server):
        return None
    return login


def _login_settings(login: GitLogin, held: int) -> dict[str, str]:
    """Settings of git that no file keeps, besides those that are held.

    They say which server the helper is for, so that no other one is answered to which it redirects.
    """
    # Without the first, a helper of the image would be told what proved right, and might keep it.
    server = grammar.git_server("OJ_K8S_GIT_URL", login.server)
    settings = {"credential.helper": "", f"credential.{server}.helper": GIT_HELPER}
    made = {"GIT_CONFIG_COUNT": str(held + len(settings))}
    for number, (name, value) in enumerate(settings.items(), held):
        made |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": _literal(value)}
    return made


def _base(plan: PodPlan) -> dict[str, str]:
    """What a runbook may set otherwise."""
    return {
        "HOME": HOME,
        # The folder is made by the kubelet and belongs to root, which git would distrust.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": plan.workspace.path,
    }


def _git_access(plan: PodPlan) -> dict[str, str]:
    allowed = {"GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}
    return allowed | ({"GIT_SSH_COMMAND": GIT_SSH_COMMAND} if plan.ssh is not None else {})


def _sidecar_environment(plan: PodPlan) -> dict[str, str]:
    named = {
        "OJ_SIDECAR_HOST": "0.0.0.0",  # noqa: S104 - the daemon and the probes come from outside
        "OJ_SIDECAR_PORT": str(plan.port),
        "OJ_SIDECAR_TOKEN_FILE": f"{SIDECAR_FILES}/{TOKEN}",
        "OJ_SIDECAR_CWD": plan.workspace.path,
    }
    if plan.tls:
        named |= {
            "OJ_SIDECAR_TLS_CERT": f"{SIDECAR_FILES}/{CERTIFICATE}",
            "OJ_SIDECAR_TLS_KEY": f"{SIDECAR_FILES}/{KEY}",
            "OJ_SIDECAR_CLIENT_CA": f"{SIDECAR_FILES}/{CA}",
        }
    if plan.has_config:
        named["OJ_SIDECAR_AGENT_CONFIG"] = f"{SIDECAR_FILES}/{CONFIG}"
    return named


def _environment(plan: PodPlan) -> tuple[list[Object], list[str]]:
    """The agent's variables, in order; and the ones of the runbook that are ours."""
    forced = {**_git_access(plan), **_sidecar_environment(plan)}
    taken = {*forced, *plan.private_env, *plan.secret_env}
    in_vain = [
        f"env {name}: left out, oj sets this variable itself"
        for name in plan.env
        if name in forced or template.OUR_VARIABLES.fullmatch(name)
    ]
    wanted = {
        name: value
        for name, value in {**_base(plan), **plan.env}.items()
        if name not in taken and not template.OUR_VARIABLES.fullmatch(name)
    }
    credentials = {
        name: KeyOf(plan.credential_secret, name, optional=True)
        for name in plan.credential_names
        if plan.credential_secret and name not in {*wanted, *plan.secret_env, *plan.private_env}
    }
    private = {name: KeyOf(plan.name, _private_key(name)) for name in plan.private_env}
    return [
        *({"name": name, "value": _literal(value)} for name, value in wanted.items()),
        *(_from(name, key) for name, key in {**credentials, **plan.secret_env, **private}.items()),
        *({"name": name, "value": value} for name, value in forced.items()),
    ], in_vain


def _from(name: str, key: KeyOf) -> Object:
    wanted: Object = {"name": key.secret, "key": key.key}
    if key.optional:
        wanted["optional"] = True
    return {"name": name, "valueFrom": {"secretKeyRef": wanted}}


def _private_key(name: str) -> str:
    return f"env.{name}"


def _private(values: Mapping[str, str]) -> dict[str, str]:
    return {_private_key(name): value for name, value in values.items()}


def _mounts(plan: PodPlan) -> list[Object]:
    workspace: Object = {"name": "workspace", "mountPath": plan.workspace.path}
    if plan.workspace.claim:
        workspace["subPath"] = (
            "workspace"  # beside what the file system of a new volume has at its top
        )
    mounts = [
        workspace,
        {"name": "home", "mountPath": HOME},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
    ]
    if plan.ssh is not None:
        mounts.append({"name": "ssh", "mountPath": SSH_FILES, "readOnly": True})
    return mounts


def _volumes(plan: PodPlan) -> list[Object]:
    if plan.workspace.claim:
        workspace: Object = {"persistentVolumeClaim": {"claimName": plan.workspace.claim}}
    else:
        size = plan.workspace.size
        workspace = {"emptyDir": {"sizeLimit": size} if size else {}}
    keys = [TOKEN, *((KEY, CERTIFICATE, CA) if plan.tls else ())]
    if plan.has_config:
        keys.append(CONFIG)
    volumes: list[Object] = [
        {"name": "workspace", **workspace},
        {"name": "home", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "sidecar", "secret": _files(plan.name, {key: key for key in keys})},
    ]
    if plan.ssh is not None:
        files = {plan.ssh.key: "id", plan.ssh.known_hosts: "known_hosts"}
        volumes.append({"name": "ssh", "secret": _files(plan.ssh.secret, files)})
    login = _login(plan)
    if login is not None:
        # All its keys, because a Secret with a token alone has no username.
        secret = {"secretName": login.secret, "defaultMode": READABLE}
        volumes.append({"name": "git", "secret": secret})
    return volumes


def _files(secret: str, paths: Mapping[str, str]) -> Object:
    items = [{"key": key, "path": path} for key, path in paths.items()]
    return {"secretName": secret, "defaultMode": READABLE, "items": items}


def _literal(text: str) -> str:
    """As Kubernetes has to see it to keep it: `$(NAME)` would be replaced, `$$` becomes `$`."""
    return text.replace("$", "$$")


# -- what holds for every container, whoever wrote it -----------------------------------------------------------------------


def _finish(plan: PodPlan, pod: Object) -> None:
    """Resources and the restricted context everywhere, and init containers in the order that works."""
    spec = pod["spec"]
    own = _asked(plan)
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind, ()):
            is_ours = container["name"] in (AGENT, *template.INIT)
            asked = own if is_ours else {}
            if container["name"] in template.INIT:
                asked = {
                    what: {
                        name: each for name, each in amounts.items() if name in grammar.RESOURCES
                    }
                    for what, amounts in own.items()
                }
            where = f"container {container['name']}"
            container["resources"] = _resources(where, plan, container.get("resources", {}), asked)
            container["securityContext"] = {
                **container.get("securityContext", {}),
                **template.CONTEXT,
            }
    if "initContainers" in spec:
        # Those that stay, such as a proxy, come before the clone, which may need them; the others may need the clone.
        spec["initContainers"].sort(key=lambda each: each.get("restartPolicy") != "Always")


def _asked(plan: PodPlan) -> dict[str, dict[str, str]]:
    both = {"cpu": plan.cpu, "memory": plan.memory}
    given = {name: value for name, value in both.items() if value}
    return {"requests": {**given, **plan.requests}, "limits": {**given, **plan.limits}}


def _resources(
    where: str, plan: PodPlan, written: Mapping[str, Any], asked: Mapping[str, Mapping[str, str]]
) -> Object:
    """Requests and limits: what was asked for in the runbook, else in a template, else the defaults, which give way."""
    requests = {**written.get("requests", {}), **asked.get("requests", {})}
    limits = {**written.get("limits", {}), **asked.get("limits", {})}
    for name in {**requests, **limits}:
        grammar.resource(f"{where}: resource", name)
    amounts = {
        (kind, name): grammar.amount(f"{where}: {kind} {name}", name, text)
        for kind, given in (("requests", requests), ("limits", limits))
        for name, text in given.items()
    }
    for name in dict.fromkeys((*grammar.RESOURCES, *requests, *limits)):
        low, high = _default(plan.defaults, name)
        request, limit = amounts.get(("requests", name)), amounts.get(("limits", name))
        if request is None and limit is None:
            requests[name], limits[name] = low, high
        elif request is None and limit is not None:
            is_enough = bool(low) and grammar.quantity(name, low) <= limit
            requests[name] = low if is_enough else limits[name]
        elif limit is None and request is not None:
            is_enough = bool(high) and grammar.quantity(name, high) >= request
            limits[name] = high if is_enough else requests[name]
        elif request is not None and limit is not None and request > limit:
            raise Rejected(
                f"{where}: {name} of {requests[name]} is requested, and the limit is {limits[name]}",
                code="invalid",
                hint=f"raise the limit or lower the request: "
                f'container {{ limits = {{ {_word(name)} = "{requests[name]}" }} }}',
            )
    made: Object = {
        "requests": {name: requests[name] for name in _in_order(requests)},
        "limits": {name: limits[name] for name in _in_order(limits)},
    }
    return made | ({"claims": written["claims"]} if "claims" in written else {})


def _in_order(names: Mapping[str, str]) -> list[str]:
    return [name for name in grammar.RESOURCES if name in names] + sorted(
        names.keys() - set(grammar.RESOURCES)
    )


def _word(name: str) -> str:
    return name if name.isalpha() else f'"{name}"'


def _default(defaults: Defaults, name: str) -> tuple[str, str]:
    match name:
        case "cpu":
            return defaults.cpu_request, defaults.cpu_limit
        case "memory":
            return defaults.memory_request, defaults.memory_limit
        case "ephemeral-storage":
            return defaults.ephemeral_request, defaults.ephemeral_limit
        case _:
            return "", ""


# -- what cannot work -----------------------------------------------------------------------------------------------------


def _check(plan: PodPlan) -> None:
    _check_identity(plan)
    grammar.image("image", plan.image)
    _check_word("pull policy", plan.pull_policy, ("", "Always", "IfNotPresent", "Never"))
    for name in plan.pull_secrets:
        grammar.subdomain("pull secret", name)
    _check_environment(plan)
    _check_clone(plan)
    check_defaults(plan.defaults)
    _check_numbers(plan)
    path = plan.workspace.path
    is_plain = path.startswith("/") and not set(path) & set(":$\0") and ".." not in path.split("/")
    if not is_plain or path.rstrip("/") in ("", HOME, "/tmp", "/etc") or path.startswith(FILES):  # noqa: S108 - the pod's own
        raise Rejected(f"workspace {path!r}: it cannot be there", code="invalid",
                       hint=f"use a folder of its own, such as {WORKSPACE}")  # fmt: skip
    if plan.workspace.claim:
        grammar.subdomain("volume claim", plan.workspace.claim)
    if plan.workspace.size:
        grammar.amount("workspace size", "memory", plan.workspace.size)


def _check_identity(plan: PodPlan) -> None:
    grammar.name("pod", plan.name)
    grammar.name("namespace", plan.namespace)
    if not plan.instance:
        raise Rejected(f"make the pod {plan.name}: it is not said whose it is", code="internal",
                       hint="report this as a bug")  # fmt: skip
    for what, value in (
        ("instance", plan.instance),
        ("job", plan.job_id),
        ("crew", plan.crew_id),
        ("agent", plan.agent_id),
    ):
        grammar.label(what, value)
    for what, given in (("label", plan.labels), ("annotation", plan.annotations)):
        for name, value in given.items():
            grammar.key(what, name)
            if what == "label":
                grammar.label(f"label {name}", value)
            if name.startswith(RESERVED_PREFIX):
                raise Rejected(f"{what} {name!r}: names under {RESERVED_PREFIX} are how oj knows its pods",
                               code="invalid", hint="give it another name")  # fmt: skip


def _check_environment(plan: PodPlan) -> None:
    names = [*plan.env, *plan.secret_env, *plan.private_env, *plan.credential_names]
    for name in names:
        grammar.variable("env", name)
    for name, value in plan.env.items():
        if "\0" in value:
            raise Rejected(f"env {name}: it has a NUL in it", code="invalid",
                           hint="remove it: no program can be given one")  # fmt: skip
    for name, key in plan.secret_env.items():
        grammar.subdomain(f"env {name}: Secret", key.secret)
        grammar.key(f"env {name}: key", key.key)
    if plan.credential_secret:
        grammar.subdomain("OJ_K8S_CREDENTIAL_SECRET", plan.credential_secret)
    if plan.ssh is not None:
        grammar.subdomain("OJ_K8S_SSH_SECRET", plan.ssh.secret)
    if plan.git_login is not None:
        check_git_login(plan.git_login)


def _check_clone(plan: PodPlan) -> None:
    clone = plan.clone
    if clone is None:
        return
    grammar.git_url(clone.url)
    if clone.branch:
        grammar.git_ref("branch", clone.branch)
    if clone.ref:
        grammar.git_ref("ref", clone.ref)
    if clone.image:
        grammar.image("image of the clone", clone.image)
    if clone.depth < 0:
        raise Rejected(f"clone: a depth of {clone.depth}", code="invalid",
                       hint="use 1 or more, or 0 for everything")  # fmt: skip


def check_git_login(login: GitLogin) -> None:
    """Raise Rejected where it is not said, or not well, which Secret is for which server."""
    if not login.secret or not login.server:
        missing = "OJ_K8S_GIT_SECRET" if not login.secret else "OJ_K8S_GIT_URL"
        raise Rejected(
            f"{missing} is not set: OJ_K8S_GIT_SECRET is for the server of OJ_K8S_GIT_URL, and shown to no other",
            code="invalid",
            hint="set both, as OJ_K8S_GIT_SECRET=git-login OJ_K8S_GIT_URL=https://git.example.com, or neither",
        )
    grammar.subdomain("OJ_K8S_GIT_SECRET", login.secret)
    grammar.git_server("OJ_K8S_GIT_URL", login.server)


def check_defaults(defaults: Defaults) -> None:
    """Raise Rejected for amounts that no pod can have."""
    for resource, name in (
        ("cpu", "CPU"),
        ("memory", "MEMORY"),
        ("ephemeral-storage", "EPHEMERAL"),
    ):
        low, high = _default(defaults, resource)
        request = grammar.amount(f"OJ_K8S_{name}_REQUEST", resource, low)
        limit = grammar.amount(f"OJ_K8S_{name}_LIMIT", resource, high)
        if request > limit:
            raise Rejected(
                f"OJ_K8S_{name}_REQUEST is {low}, which is more than OJ_K8S_{name}_LIMIT, {high}",
                code="invalid",
                hint=f"set OJ_K8S_{name}_LIMIT to {low} or more",
            )


def _check_numbers(plan: PodPlan) -> None:
    def at_least(what: str, number: int, least: int, most: int = 2**31 - 1) -> None:
        if not least <= number <= most:
            raise Rejected(f"{what} {number}: out of range", code="invalid",
                           hint=f"use a number from {least} to {most}")  # fmt: skip

    at_least("user", plan.user, 1)
    at_least("port", plan.port, 1024, 65535)
    at_least("grace period", plan.grace_seconds, 0)
    for probe in (plan.probes.startup, plan.probes.readiness, plan.probes.liveness):
        if probe is not None:
            at_least("period of a probe", probe.period, 1)
            at_least("failures of a probe", probe.failures, 1)
            at_least("timeout of a probe", probe.timeout, 1)
            at_least("delay of a probe", probe.delay, 0)


def _check_word(what: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise Rejected(f"{what} {word!r}: there is no such one", code="invalid",
                       hint=f"use {', '.join(each for each in words if each)}")  # fmt: skip
