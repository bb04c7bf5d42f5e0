"""Tests of oj_cli/connect.py: against an API server on loopback and a TLS port behind its port-forward."""

from __future__ import annotations

import base64
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme

from oj_cli import connect
from oj_cli.connect import Cluster, Way
from oj_daemon import settings
from oj_daemon.errors import AdapterError, OjError
from oj_daemon.manifest.objects import objects
from oj_daemon.manifest.options import Options
from oj_daemon.settings import Secret
from tests.support.cluster_api import ClusterApi

TOKEN = "a-token-of-the-tests"
PATHS = {
    "StatefulSet": "/apis/apps/v1/namespaces/oj/statefulsets/oj-daemon",
    "Service": "/api/v1/namespaces/oj/services/oj-daemon",
    "Secret": "/api/v1/namespaces/oj/secrets/oj-daemon-token",
    "pods": "/api/v1/namespaces/oj/pods",
    "portforward": "/api/v1/namespaces/oj/pods/oj-daemon-0/portforward",
}


class TlsPort:
    """Shakes hands with everybody and hangs up."""

    def __init__(self, certificate: trustme.LeafCert) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as tls:
                    tls.recv(1)
            except OSError:
                continue  # it has seen what it wanted


CERTIFICATE = trustme.CA().issue_cert("oj-daemon.oj.svc")
PEM = CERTIFICATE.cert_chain_pems[0].bytes()
FINGERPRINT = sha256(ssl.PEM_cert_to_DER_cert(PEM.decode())).hexdigest()


@pytest.fixture
def daemon() -> Iterator[TlsPort]:
    port = TlsPort(CERTIFICATE)
    yield port
    port.close()


@pytest.fixture
def api() -> Iterator[ClusterApi]:
    """A cluster with the default daemon, ready; its port is not forwarded yet."""
    server = ClusterApi().start()
    put(server, Options(image="oj", token=Secret(TOKEN)))
    yield server
    server.close()


def put(server: ClusterApi, options: Options, *, is_ready: bool = True) -> None:
    made: dict[str, dict[str, Any]] = {each["kind"]: each for each in objects(options)}
    server.objects[PATHS["StatefulSet"]] = made["StatefulSet"]
    server.objects[PATHS["Service"]] = made["Service"] | {"status": {"loadBalancer": {}}}
    secret = made.get("Secret", {"metadata": {"name": "mine"}})
    server.objects[PATHS["Secret"]] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": secret["metadata"],
        "data": {"token": base64.b64encode(TOKEN.encode()).decode()},
    }
    pods = [
        {
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "daemon"}]},
            "status": {
                "hostIP": "192.0.2.9",
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            },
        }
        for name, ready in (("oj-daemon-1", False), ("oj-daemon-0", is_ready))
    ]
    server.objects[PATHS["pods"]] = {
        "apiVersion": "v1",
        "kind": "PodList",
        "metadata": {},
        "items": pods,
    }


def ask(server: ClusterApi, folder: Path, **where: Any) -> Way:
    return connect.to_cluster(Cluster(kubeconfig=str(server.kubeconfig(folder)), **where))


def test_a_daemon_without_an_address_is_reached_by_port_forward_and_pinned_through_the_api(
    api: ClusterApi, daemon: TlsPort, tmp_path: Path
) -> None:
    api.forward_to = daemon.port
    way = ask(api, tmp_path)
    assert way == Way(
        url="tls://127.0.0.1:7777",
        fingerprint=FINGERPRINT,
        token=Secret(TOKEN),
        token_origin="key `token` of Secret oj-daemon-token in namespace oj",
        place="test.oj.oj-daemon",
        notes=(
            f"Keep this running meanwhile: kubectl --kubeconfig {tmp_path}/kubeconfig --context test "
            "--namespace oj port-forward service/oj-daemon 7777:7777",
        ),
    )
    assert {authorization for _, authorization in api.asked} == {"Bearer of-the-cluster"}
    # The pod that is ready was asked, not the standby.
    assert api.asked[-1][0] == PATHS["portforward"]


def test_the_address_of_a_load_balancer_is_used(
    api: ClusterApi, daemon: TlsPort, tmp_path: Path
) -> None:
    api.forward_to = daemon.port
    for ingress, host in (
        ({"ip": "203.0.113.5"}, "203.0.113.5"),
        ({"ip": "2001:db8::5"}, "[2001:db8::5]"),
        ({"hostname": "lb.example.com"}, "lb.example.com"),
    ):
        api.objects[PATHS["Service"]]["status"] = {"loadBalancer": {"ingress": [ingress]}}
        way = ask(api, tmp_path)
        assert (way.url, way.notes) == (f"tls://{host}:7777", ())
    assert ask(api, tmp_path, local_port=17777).url == "tls://127.0.0.1:17777"


def test_the_port_of_a_node_is_used(api: ClusterApi, daemon: TlsPort, tmp_path: Path) -> None:
    api.forward_to = daemon.port
    api.objects[PATHS["Service"]]["spec"]["ports"][0]["nodePort"] = 30777
    way = ask(api, tmp_path)
    assert way.url == "tls://192.0.2.9:30777"
    assert way.notes == ("Any node of the cluster answers at port 30777",)


def test_a_certificate_that_was_given_is_pinned_from_its_secret(
    api: ClusterApi, tmp_path: Path
) -> None:
    put(api, Options(image="oj", token=Secret(TOKEN), tls_secret="cert"))
    chain = PEM + trustme.CA().cert_pem.bytes()
    api.objects["/api/v1/namespaces/oj/secrets/cert"] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "cert"},
        "data": {"tls.crt": base64.b64encode(chain).decode()},
    }
    assert ask(api, tmp_path).fingerprint == FINGERPRINT
    assert not any("portforward" in path for path, _ in api.asked)


def test_a_given_certificate_that_may_not_be_read_is_asked_for_through_the_api(
    api: ClusterApi, daemon: TlsPort, tmp_path: Path
) -> None:
    put(api, Options(image="oj", token=Secret(TOKEN), tls_secret="cert"))
    api.forbidden.add("/api/v1/namespaces/oj/secrets/cert")
    api.forward_to = daemon.port
    assert ask(api, tmp_path).fingerprint == FINGERPRINT


def test_where_ports_may_not_be_forwarded_whoever_answers_is_pinned_with_a_doubt(
    api: ClusterApi, daemon: TlsPort, tmp_path: Path
) -> None:
    api.forbidden.add(PATHS["portforward"])
    way = ask(api, tmp_path, local_port=daemon.port)
    assert way.fingerprint == FINGERPRINT
    assert way.notes[1].startswith(
        f"The fingerprint is of whoever answers at 127.0.0.1:{daemon.port}: compare it (forward a port of pod oj-daemon-0: "
    )


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_fingerprint_that_nobody_tells_is_said_to_be_unknown(
    api: ClusterApi, tmp_path: Path, is_ready: bool
) -> None:
    put(api, Options(image="oj", token=Secret(TOKEN)), is_ready=is_ready)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    way = ask(api, tmp_path, local_port=port)
    assert way.fingerprint == ""
    assert way.notes[1].startswith("The fingerprint of its certificate is not known (")
    assert "exec oj-daemon-0 -- oj daemon status" in way.notes[1]


def test_a_token_that_may_not_be_read_is_told_to_be_where_it_is(
    api: ClusterApi, daemon: TlsPort, tmp_path: Path
) -> None:
    api.forward_to = daemon.port
    api.forbidden.add(PATHS["Secret"])
    way = ask(api, tmp_path)
    assert not way.token
    assert way.token_origin.startswith("key `token` of Secret oj-daemon-token in namespace oj (")
    assert "the cluster does not allow it" in way.token_origin


@pytest.mark.parametrize(
    ("spoil", "said", "hint"),
    [
        (lambda api: api.objects.clear(), "there is none", "app.kubernetes.io/name=oj"),
        (lambda api: api.forbidden.add(PATHS["StatefulSet"]), "does not allow it", "can-i --list --namespace oj"),
        (lambda api: api.objects[PATHS["pods"]].update(items="x"), "find the daemon", "cluster-info"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_was_wanted_and_what_to_do(
    api: ClusterApi, tmp_path: Path, spoil: Any, said: str, hint: str
) -> None:
    spoil(api)
    with pytest.raises(AdapterError) as refused:
        ask(api, tmp_path)
    assert refused.value.message.startswith("find the daemon oj-daemon in namespace oj: ")
    assert said in refused.value.message
    assert hint in refused.value.hint


def test_a_cluster_that_is_away_is_one_error(tmp_path: Path, api: ClusterApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        api_port, api.port = api.port, closed.getsockname()[1]
    kubeconfig = str(api.kubeconfig(tmp_path))
    api.port = api_port
    with pytest.raises(AdapterError, match=r"find the daemon oj-daemon in namespace oj: .*refused"):
        connect.to_cluster(Cluster(kubeconfig=kubeconfig))


@pytest.mark.parametrize("where", [{"kubeconfig": "/nowhere"}, {"kube_context": "other"}])
def test_a_kubeconfig_that_does_not_serve_is_an_error(
    api: ClusterApi, tmp_path: Path, where: dict[str, str]
) -> None:
    chosen = {"kubeconfig": str(api.kubeconfig(tmp_path)), **where}
    with pytest.raises(AdapterError) as refused:
        connect.to_cluster(Cluster(**chosen))  # type: ignore[arg-type]  # two texts
    assert refused.value.message.startswith("read the kubeconfig: ")
    assert "--context NAME" in refused.value.hint


@pytest.mark.parametrize(
    "text",
    ["a: [", "- a\n- b\n", "a", "current-context: a\ncontexts: [{name: a, context: x}]\nclusters: x\n"],
)  # fmt: skip
def test_a_kubeconfig_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    with pytest.raises(AdapterError, match=r"^read the kubeconfig: "):
        connect.to_cluster(Cluster(kubeconfig=str(file)))


@pytest.mark.parametrize(("content", "token"), [(f"{TOKEN}\n".encode(), TOKEN), (b"\xff", "")])
def test_the_token_is_read_as_the_daemon_reads_it(
    api: ClusterApi, tmp_path: Path, content: bytes, token: str
) -> None:
    secret = api.objects[PATHS["Secret"]]
    secret["data"] = {"token": base64.b64encode(content).decode()}
    assert ask(api, tmp_path).token.reveal() == token


def test_whoever_may_not_know_is_not_told_that_there_is_no_port() -> None:
    with pytest.raises(OjError, match="only told to who may manage it"):
        connect.to_here({"settings": []}, settings.load({"HOME": "/"}))


def here(**values: str) -> Way:
    chosen = {"tcp_port": "7777", "tcp_bind": "0.0.0.0", "tls": "yes", "token": "***"} | values
    info = {
        "settings": [
            {"name": name, "value": value, "reason": f"OJ_{name.upper()}"}
            for name, value in chosen.items()
        ],
        "tls_fingerprint": "ab" * 32,
    }
    return connect.to_here(info, settings.load({"HOME": "/", "OJ_AUTH_TOKEN": TOKEN}))


def test_the_daemon_of_this_machine_is_called_by_its_name_elsewhere() -> None:
    assert here() == Way(
        url=f"tls://{socket.gethostname()}:7777",
        fingerprint="ab" * 32,
        token=Secret(TOKEN),
        token_origin="the one that the daemon was started with (OJ_TOKEN)",
        place=socket.gethostname(),
    )
    assert here(tcp_bind="192.0.2.4", tls="no").url == "tcp://192.0.2.4:7777"
    assert here(tcp_bind="127.0.0.1").notes == (
        "It listens on 127.0.0.1 only; OJ_TCP_BIND=0.0.0.0 opens it",
    )


def test_a_daemon_without_a_port_says_how_to_open_one() -> None:
    with pytest.raises(OjError) as refused:
        here(tcp_port="off")
    assert "unix socket only" in refused.value.message
    assert "OJ_TCP_PORT=7777" in refused.value.hint


def test_the_token_is_saved_for_its_owner_alone_and_one_file_for_each_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    way = here()._replace(place="arn:aws:eks/../a.oj.oj-daemon")
    assert not connect.is_saved(way)
    path = connect.save(way)
    assert path.name == "arn-aws-eks-..-a.oj.oj-daemon"
    assert path.is_relative_to(tmp_path)
    assert path.read_text() == TOKEN
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert connect.is_saved(way)
    other = way._replace(token=Secret("another-token-of-tests"))
    assert not connect.is_saved(other)
    assert connect.save(other) == path
    assert path.read_text() == "another-token-of-tests"


def test_a_text_without_a_certificate_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="no certificate"):
        connect.fingerprint_of("nothing")
