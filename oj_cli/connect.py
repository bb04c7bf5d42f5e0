"""How a client reaches a daemon that is not on its own unix socket: the one in a cluster, or this machine's from another one.

Rule: reads and tells, changes nothing but the token file that it was asked to write. What a cluster says is believed as far as
the kubeconfig vouches for its API: the certificate to pin comes out of a Secret or through the API's own port-forward, and only
where neither works from whoever answers at the address, which is then said.
"""

from __future__ import annotations

import base64
import binascii
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from oj_daemon.errors import AdapterError, OjError
from oj_daemon.manifest.options import NAME, NAMESPACE, TLS_VOLUME, TOKEN_KEY
from oj_daemon.settings import EVERYWHERE, TCP_PORT, Secret, Settings
from oj_daemon.store.files import make_folder, replace_file, store_error

Object = dict[str, Any]

PATIENCE: Final = 10.0
"""Seconds for each answer of an API server or a daemon."""


class Cluster(NamedTuple):
    """Which daemon of which cluster; the fields are called as the options of `oj daemon connect`."""

    namespace: str = NAMESPACE
    name: str = NAME
    kube_context: str | None = None
    kubeconfig: str | None = None
    local_port: int | None = None


class Way(NamedTuple):
    """What a client needs to reach one daemon."""

    url: str
    fingerprint: str
    """SHA-256 of its certificate; empty: not known, or no TLS."""
    token: Secret[str]
    """Empty when it is not known."""
    token_origin: str
    """Where the token is, for people."""
    place: str
    """Which daemon this is, for the name of a file."""
    notes: tuple[str, ...] = ()
    """What a person has to do or to know, a line each."""


class _Found(NamedTuple):
    """The objects of one daemon, as far as they matter."""

    api: Any
    """The library's client, logged in."""
    context: str
    service: Object
    pods: list[Object]
    """Ready ones first."""
    volumes: dict[str, str]
    """Names of Secrets by the volume that they are mounted as."""


# --- The daemon of this machine ---


def to_here(info: Mapping[str, Any], settings: Settings) -> Way:
    """The way to the daemon that has told this about itself (DaemonInfo), from another machine."""
    chosen = {choice["name"]: choice for choice in info["settings"]}
    if not chosen:
        raise OjError(
            "how to reach the daemon of this machine is only told to who may manage it",
            code="unauthorized",
            hint="unset OJ_AUTH_TOKEN, or set it to a token with the verb daemon",
        )
    port = chosen.get("tcp_port", {"value": "off"})["value"]
    if port == "off":
        raise OjError(
            "the daemon of this machine listens on its unix socket only",
            code="unavailable",
            hint="OJ_TCP_PORT=7777 OJ_TCP_BIND=0.0.0.0 OJ_AUTH_TOKEN_FILE=FILE oj daemon restart",
        )
    bind = chosen["tcp_bind"]["value"]
    everywhere = bind in (EVERYWHERE, "::")
    host = socket.gethostname() if everywhere else bind
    notes = [] if everywhere else [f"It listens on {bind} only; OJ_TCP_BIND=0.0.0.0 opens it"]
    scheme = "tls" if chosen["tls"]["value"] != "no" else "tcp"
    return Way(
        url=f"{scheme}://{_bracketed(host)}:{port}",
        fingerprint=info.get("tls_fingerprint", ""),
        token=settings.token,
        token_origin=f"the one that the daemon was started with ({chosen['token']['reason']})",
        place=host,
        notes=tuple(notes),
    )


# --- A daemon in a cluster ---


def to_cluster(where: Cluster) -> Way:
    """The way to the daemon that a cluster's API knows by this name."""
    found = _find(where)
    host, port, notes = _address(found, where)
    token, origin = _token(found, where)
    fingerprint, doubts = _fingerprint(found, where, host, port)
    return Way(
        url=f"tls://{_bracketed(host)}:{port}",
        fingerprint=fingerprint,
        token=token,
        token_origin=origin,
        place=f"{found.context}.{where.namespace}.{where.name}",
        notes=(*notes, *doubts),
    )


def _find(where: Cluster) -> _Found:
    from kubernetes import client  # noqa: PLC0415 - 0.9 s that only this question pays

    context, api = _log_in(where)
    with _explained(f"find the daemon {where.name} in namespace {where.namespace}", where):
        core, space = client.CoreV1Api(api), where.namespace
        owner = _plain(
            client.AppsV1Api(api).read_namespaced_stateful_set(
                where.name, space, _request_timeout=PATIENCE
            )
        )
        service = _plain(core.read_namespaced_service(where.name, space, _request_timeout=PATIENCE))
        labels = owner["spec"]["selector"].get("matchLabels", {}).items()
        chosen = ",".join(f"{name}={value}" for name, value in labels)
        pods = _plain(
            core.list_namespaced_pod(space, label_selector=chosen, _request_timeout=PATIENCE)
        )
    mounted = owner["spec"]["template"]["spec"].get("volumes", ())
    return _Found(
        api=api,
        context=context,
        service=service,
        pods=sorted(pods["items"], key=_is_ready, reverse=True),
        volumes={
            volume["name"]: volume["secret"]["secretName"]
            for volume in mounted
            if "secret" in volume
        },
    )


def _plain(model: object) -> Object:
    """An object as the API sent it, without a class and a None for each field."""
    from kubernetes import client  # noqa: PLC0415 - loaded already

    made: Object = client.ApiClient().sanitize_for_serialization(model)  # type: ignore[no-untyped-call]  # theirs
    return made


def _log_in(where: Cluster) -> tuple[str, Any]:
    """Take the kubeconfig's credentials; returns the name of its context and the library's client."""
    import yaml  # noqa: PLC0415 - the library's
    from kubernetes import client, config  # noqa: PLC0415 - see above

    try:
        _, active = config.list_kube_config_contexts(where.kubeconfig)  # type: ignore[no-untyped-call]  # theirs
        name = where.kube_context or active["name"]
        configuration = client.Configuration()
        # Else a server that is away is asked four times, with a line on stderr for each.
        configuration.retries = False
        config.load_kube_config(  # type: ignore[no-untyped-call]  # theirs
            where.kubeconfig, context=name, client_configuration=configuration
        )
    except (
        config.ConfigException,
        OSError,
        yaml.YAMLError,
        *(AttributeError, KeyError, TypeError, ValueError),  # the library trusts what it reads
    ) as failure:
        raise AdapterError(
            f"read the kubeconfig: {failure}",
            code="invalid",
            hint="see: kubectl config get-contexts; then --kubeconfig FILE or --context NAME",
        ) from failure
    return str(name), client.ApiClient(configuration)


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _address(found: _Found, where: Cluster) -> tuple[str, int, list[str]]:
    """Host and port, and what has to be done for it."""
    ports = [each for each in found.service["spec"].get("ports", ()) if each["port"] == TCP_PORT]
    if where.local_port is None and ports:
        status = found.service.get("status", {}).get("loadBalancer", {})
        for each in status.get("ingress", ()):
            return each.get("hostname") or each["ip"], TCP_PORT, []
        nodes = [pod["status"]["hostIP"] for pod in found.pods if pod["status"].get("hostIP")]
        node_port = ports[0].get("nodePort")
        if node_port and nodes:
            return nodes[0], node_port, [f"Any node of the cluster answers at port {node_port}"]
    local = where.local_port or TCP_PORT
    command = f"{_kubectl(found, where)} port-forward service/{where.name} {local}:{TCP_PORT}"
    return "127.0.0.1", local, [f"Keep this running meanwhile: {command}"]


def _kubectl(found: _Found, where: Cluster) -> str:
    """How a person calls it for just this cluster and namespace."""
    file = f"--kubeconfig {where.kubeconfig} " if where.kubeconfig else ""
    return f"kubectl {file}--context {found.context} --namespace {where.namespace}"


def _token(found: _Found, where: Cluster) -> tuple[Secret[str], str]:
    """The token, if it may be read, and where it is."""
    name = found.volumes.get(TOKEN_KEY)
    if name is None:
        return Secret(""), f"StatefulSet {where.name} mounts none as `{TOKEN_KEY}`"
    origin = f"key `{TOKEN_KEY}` of Secret {name} in namespace {where.namespace}"
    try:
        content = _secret(found, name, where).get(TOKEN_KEY, b"")
        # As the daemon reads it: whoever made the Secret with `echo` has a line break in it.
        return Secret(content.decode().strip()), origin
    except UnicodeDecodeError:
        return Secret(""), f"{origin} (it is not UTF-8)"
    except AdapterError as failure:
        return Secret(""), f"{origin} ({failure.message})"


def _secret(found: _Found, name: str, where: Cluster) -> dict[str, bytes]:
    from kubernetes import client  # noqa: PLC0415 - loaded already

    with _explained(f"read Secret {name}", where):
        secret = client.CoreV1Api(found.api).read_namespaced_secret(
            name, where.namespace, _request_timeout=PATIENCE
        )
    return {key: base64.b64decode(value) for key, value in _plain(secret).get("data", {}).items()}


@contextmanager
def _explained(doing: str, where: Cluster) -> Iterator[None]:
    """Say what an API server's refusal means for somebody who wants to connect."""
    from kubernetes.client.exceptions import ApiException  # noqa: PLC0415 - loaded already
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - the transport of that library

    try:
        yield
    except ApiException as failure:
        why, hint = {
            401: ("the cluster does not know these credentials", "log in to the cluster again"),
            403: (
                "the cluster does not allow it",
                f"see: kubectl auth can-i --list --namespace {where.namespace}",
            ),
            404: (
                "there is none",
                "kubectl get statefulsets --all-namespaces -l app.kubernetes.io/name=oj; then --namespace and --name",
            ),
        }.get(failure.status or 0, (f"{failure.status} {failure.reason}", "try again"))
        raise AdapterError(f"{doing}: {why}", code="unavailable", hint=hint) from failure
    except (HTTPError, OSError, ValueError, binascii.Error) as failure:
        raise AdapterError(
            f"{doing}: {failure}", code="unavailable", hint="see: kubectl cluster-info"
        ) from failure


# --- The certificate to pin ---


def _fingerprint(
    found: _Found, where: Cluster, host: str, port: int
) -> tuple[str, tuple[str, ...]]:
    """SHA-256 of the daemon's certificate, from whom it can be had most safely, and doubts about it."""
    given = found.volumes.get(TLS_VOLUME)
    if given is not None:
        try:
            return fingerprint_of(_secret(found, given, where).get("tls.crt", b"").decode()), ()
        except (AdapterError, ValueError):
            pass  # not everybody may read it; what the daemon shows is the same
    try:
        return _through_api(found, where), ()
    except (AdapterError, OSError) as failure:
        why = str(failure)
    try:
        seen = fingerprint_at(host, port)
    except (OSError, EOFError):
        command = f"{_kubectl(found, where)} exec {where.name}-0 -- oj daemon status"
        note = f"The fingerprint of its certificate is not known ({why}); it is in: {command}"
        return "", (note,)
    return seen, (f"The fingerprint is of whoever answers at {host}:{port}: compare it ({why})",)


def _through_api(found: _Found, where: Cluster) -> str:
    """Ask the daemon itself, by a connection that the API server makes to its pod."""
    from kubernetes import client, stream  # noqa: PLC0415 - loaded already

    if not found.pods or not _is_ready(found.pods[0]):
        raise AdapterError("no pod of it is ready", code="unavailable")
    pod = found.pods[0]["metadata"]["name"]
    with _explained(f"forward a port of pod {pod}", where):
        forward = stream.portforward(
            client.CoreV1Api(found.api).connect_get_namespaced_pod_portforward,
            pod,
            where.namespace,
            ports=str(TCP_PORT),
        )
    near = forward.socket(TCP_PORT)
    near.settimeout(PATIENCE)
    try:
        return _shaken(near)
    except EOFError as failure:
        why = forward.error(TCP_PORT) or "the connection was closed"
        raise AdapterError(f"forward a port of pod {pod}: {why}") from failure
    finally:
        # The library's thread ends well only if it sees us end, and nothing that was sent to us is left unread.
        near.shutdown(socket.SHUT_WR)
        while near.recv(65536):
            pass
        near.close()


def _shaken(near: socket.socket) -> str:
    """The fingerprint of who answers at the far end of a connection, which stays as it is; EOFError when nobody does."""
    import ssl  # noqa: PLC0415 - only here

    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = _unverified(ssl).wrap_bio(received, to_send)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            near.sendall(to_send.read())
            data = near.recv(65536)
            if not data:
                raise EOFError from None
            received.write(data)
        else:
            near.sendall(to_send.read())
            return sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def fingerprint_at(host: str, port: int) -> str:
    """The fingerprint of whoever answers there, which proves nothing about who that is."""
    with socket.create_connection((host, port), timeout=PATIENCE) as near:
        return _shaken(near)


def _unverified(ssl: Any) -> Any:  # noqa: ANN401 - the module, and its SSLContext
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is asked who it is; nothing is told to it
    return context


def fingerprint_of(chain: str) -> str:
    """The fingerprint of the first certificate of a PEM text; ValueError when there is none."""
    match = re.search(
        r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", chain, re.DOTALL
    )
    if match is None:
        raise ValueError("no certificate")
    return sha256(base64.b64decode(match[1])).hexdigest()


# --- The token's file ---


def token_path(way: Way) -> Path:
    """Where the token of this daemon is kept: one file for each, so that no daemon is shown another's."""
    import platformdirs  # noqa: PLC0415 - only here

    folder = platformdirs.user_config_path("oj", appauthor=False) / "tokens"
    return folder / re.sub(r"[^A-Za-z0-9._-]+", "-", way.place)


def is_saved(way: Way) -> bool:
    """Whether the file holds this very token."""
    try:
        return token_path(way).read_text(encoding="utf-8") == way.token.reveal()
    except (OSError, UnicodeDecodeError):
        return False


def save(way: Way) -> Path:
    """Write the token to its file, which only its owner can read; returns the path."""
    path = token_path(way)
    make_folder(path.parent)
    try:
        replace_file(path, way.token.reveal().encode(), durable=False)
    except OSError as failure:
        raise store_error(failure, "write the token to", path) from failure
    return path


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
