"""What can be chosen about the daemon as a pod.

Rule: pure. Each choice is called as its option on the command line, and what cannot work is refused here with the option to
type instead, before a cluster refuses it in its own words.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

import msgspec

from oj_daemon.adapters.kubernetes import grammar
from oj_daemon.adapters.kubernetes.pod import Defaults
from oj_daemon.errors import Rejected
from oj_daemon.settings import Secret

NAME: Final = "oj-daemon"
NAMESPACE: Final = "oj"
TOKEN_KEY: Final = "token"  # noqa: S105 - the name of a key
"""Key of the token in its Secret, and name of the volume that mounts it."""
TLS_VOLUME: Final = "tls"
MOUNTED_ONCE: Final = ("ReadWriteOncePod", "ReadWriteOnce")
SHORTEST_TOKEN: Final = 16

LABEL: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be chosen; each is called as its option on the command line."""

    image: str
    name: str = NAME
    """Of all objects, or the beginning of their names; also of the Lease."""
    namespace: str = NAMESPACE
    create_namespace: bool = False
    replicas: int = 1
    """More than one: standbys, which share the state folder and wait for the Lease."""
    runtime: str = "kubernetes"
    """kubernetes, or local: everything runs in the daemon's own pod."""
    image_pull_secret: str = ""
    token: Secret[str] = Secret("")
    """For a new Secret; empty: `token_secret` names one that exists."""
    token_secret: str = ""
    tls_secret: str = ""
    """A Secret with `tls.crt` and `tls.key`; empty: the daemon makes its certificate itself."""
    tls_names: tuple[str, ...] = ()
    """Further names and addresses for a certificate that the daemon makes."""
    webhook_secret: str = ""
    """A Secret whose key `url` says where notifications are posted to."""
    webhook_signed: bool = False
    """The same Secret has a key `secret` that they are signed with."""
    service_type: str = "ClusterIP"
    storage_class: str = ""
    """Empty: the default one of the cluster."""
    storage_size: str = "10Gi"
    access_mode: str = ""
    """Empty: ReadWriteOncePod, or ReadWriteMany where several replicas share the volume."""
    drain_seconds: int = 25
    cpu_request: str = "100m"
    cpu_limit: str = "2"
    memory_request: str = "256Mi"
    memory_limit: str = "2Gi"
    egress_ports: tuple[int, ...] = ()
    """Further ports that the daemon may reach."""
    agent_egress_ports: tuple[int, ...] = ()
    """Further ports that places may reach."""
    agent_image: str = ""
    """Of pods whose runbook names none; empty: every runbook has to."""
    agent_credential_secret: str = ""
    agent_ssh_secret: str = ""
    agent_git_secret: str = ""
    agent_git_url: str = ""
    """The server that it is for."""
    agent_cpu_request: str = ""
    agent_cpu_limit: str = ""
    agent_memory_request: str = ""
    agent_memory_limit: str = ""
    agent_ephemeral_request: str = ""
    agent_ephemeral_limit: str = ""
    agent_pod_template: str = ""
    """Text of a YAML document that is merged into every place pod."""

    @property
    def token_from(self) -> str:
        """Name of the Secret that holds the token, new or not."""
        # Of whatever has this beginning, nothing is mounted into a place (adapters/kubernetes/template.py).
        own = self.name if self.name.startswith(NAME) else f"{NAME}-{self.name}"
        return self.token_secret or f"{own}-token"

    @property
    def labels(self) -> dict[str, str]:
        """What selects the daemon's pods; they can never be changed."""
        return {
            "app.kubernetes.io/name": "oj",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": "daemon",
        }


def check(options: Options) -> None:
    """Raise Rejected for what cannot work, before a cluster says it in its own words."""
    for problem, hint in _problems(options):
        raise Rejected(problem, code="invalid", hint=hint)


def _problems(options: Options) -> Iterator[tuple[str, str]]:
    """What is wrong and what to type instead, worst first."""
    yield from _names(options)
    yield from _quantities(options)
    yield from _combinations(options)


def _names(options: Options) -> Iterator[tuple[str, str]]:
    # A StatefulSet labels its pods with its name and a hash, and a label has 63 characters.
    for option, name, longest in (
        ("--name", options.name, 52),
        ("--namespace", options.namespace, 63),
    ):
        if len(name) > longest or not LABEL.fullmatch(name):
            yield (
                f"{option} {name!r}: not a name for Kubernetes",
                f"use at most {longest} lower-case letters, digits and dashes that begin with a letter: {option} oj-daemon",
            )
    for option, name in _references(options).items():
        if name and (len(name) > 253 or not SUBDOMAIN.fullmatch(name)):
            noun = "storageclasses" if option == "--storage-class" else "secrets"
            yield (
                f"{option} {name!r}: not a name for Kubernetes",
                f"use lower-case letters, digits, dashes and dots: the name of one of the {noun} of namespace {options.namespace}",
            )
    for name in options.tls_names:
        if not _is_host(name):
            yield (
                f"--tls-name {name!r}: neither a DNS name nor an IP address",
                "give one name with each: --tls-name oj.example.com --tls-name 192.0.2.7",
            )
    if not options.image or re.search(r"[\s,]", options.image) or options.image[0] in "-/:@":
        yield (
            f"--image {options.image!r}: not the name of an image",
            "name one that the cluster can pull: --image registry.example.com/oj-daemon:1.2.3",
        )


def _references(options: Options) -> dict[str, str]:
    return {
        "--image-pull-secret": options.image_pull_secret,
        "--token-secret": options.token_secret,
        "--tls-secret": options.tls_secret,
        "--webhook-secret": options.webhook_secret,
        "--storage-class": options.storage_class,
        "--agent-credential-secret": options.agent_credential_secret,
        "--agent-ssh-secret": options.agent_ssh_secret,
        "--agent-git-secret": options.agent_git_secret,
    }


def _is_host(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(SUBDOMAIN.fullmatch(name.lower().removeprefix("*.")))
    return True


def _quantities(options: Options) -> Iterator[tuple[str, str]]:
    default = Defaults()
    pairs = {
        "cpu": (options.cpu_request, options.cpu_limit),
        "memory": (options.memory_request, options.memory_limit),
        "agent-cpu": (
            options.agent_cpu_request or default.cpu_request,
            options.agent_cpu_limit or default.cpu_limit,
        ),
        "agent-memory": (
            options.agent_memory_request or default.memory_request,
            options.agent_memory_limit or default.memory_limit,
        ),
        "agent-ephemeral": (
            options.agent_ephemeral_request or default.ephemeral_request,
            options.agent_ephemeral_limit or default.ephemeral_limit,
        ),
    }
    singles: dict[str, str] = {}
    for name, (request, limit) in pairs.items():
        singles |= {f"--{name}-request": request, f"--{name}-limit": limit}
    if not _amount("storage", options.storage_size):
        yield (
            f"--storage-size {options.storage_size!r}: not a quantity",
            "write it like 512Mi or 4Gi",
        )
    for option, text in singles.items():
        if text and not _amount(option, text):
            example = "500m or 2" if "cpu" in option else "512Mi or 4Gi"
            yield f"{option} {text!r}: not a quantity", f"write it like {example}"
    for name, (request, limit) in pairs.items():
        if request and limit and _amount(name, request) > _amount(name, limit):
            yield (
                f"--{name}-request {request} is more than --{name}-limit {limit}",
                f"raise the limit: --{name}-limit {request}",
            )


def _amount(of: str, text: str) -> Decimal:
    """How much a quantity is, as places read it; 0 for what is none, and for nothing."""
    try:
        return grammar.amount(of, "cpu" if "cpu" in of else "memory", text)
    except Rejected:
        return Decimal(0)


def _combinations(options: Options) -> Iterator[tuple[str, str]]:
    if options.replicas > 1 and options.access_mode in MOUNTED_ONCE:
        yield (
            f"--access-mode {options.access_mode} with --replicas {options.replicas}: standbys share one volume",
            "add --access-mode ReadWriteMany, with a --storage-class that offers it, or leave out --replicas",
        )
    token = options.token.reveal()
    if bool(token) == bool(options.token_secret):
        yield (
            "a daemon that listens needs one token, from one place",
            "leave out --token-file or --token-secret",
        )
    if token and (len(token) < SHORTEST_TOKEN or not re.fullmatch(r"[!-~]+", token)):
        yield (
            f"the token is not at least {SHORTEST_TOKEN} letters, digits and signs without spaces",
            "make one: openssl rand -hex 32 > token",
        )
    if options.tls_secret and options.tls_names:
        yield (
            "--tls-name is for a certificate that the daemon makes, but --tls-secret gives one",
            "leave out --tls-name",
        )
    if options.webhook_signed and not options.webhook_secret:
        yield "--webhook-signed without --webhook-secret", "add --webhook-secret NAME"
    if bool(options.agent_git_secret) != bool(options.agent_git_url):
        yield (
            "the Secret of --agent-git-secret is shown to the server of --agent-git-url alone: one of them is missing",
            "add it: --agent-git-secret git-login --agent-git-url https://git.example.com",
        )
    elif options.agent_git_url:
        try:
            grammar.git_server("--agent-git-url", options.agent_git_url)
        except Rejected as refused:
            yield refused.message, refused.hint
    if options.runtime == "local" and _for_agents(options):
        yield (
            "options for agents with --runtime local: agents get no pods of their own",
            "leave out everything that begins with --agent-",
        )


def _for_agents(options: Options) -> list[str]:
    return [
        name
        for name in options.__struct_fields__
        if name.startswith("agent_") and getattr(options, name)
    ]
