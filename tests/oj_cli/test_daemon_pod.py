"""Tests of oj_cli/daemon_pod.py: what is printed where, and what becomes of tokens."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from oj_cli.connect import Cluster
from oj_cli.daemon_pod import connect, manifest
from oj_daemon.manifest.objects import objects
from oj_daemon.manifest.options import Options
from oj_daemon.settings import Secret
from tests.support.cluster_api import ClusterApi
from tests.support.harness import Harness
from tests.support.modules import modules_of

IMAGE = ("--image", "registry.example.com/oj-daemon:1.2.3")
TOKEN = "a-token-of-the-tests"


def secret_of(text: str) -> str | None:
    """The token in a manifest, if it has one."""
    tokens = [each["stringData"]["token"] for each in yaml.safe_load_all(text) if each["kind"] == "Secret"]  # fmt: skip
    return tokens[0] if tokens else None


def test_the_options_of_the_command_are_the_fields_of_options() -> None:
    typed = {param.name for param in manifest.params} - {"token_file", "help"}
    fields = set(Options.__struct_fields__) - {"token"}
    assert {name for name in typed if name not in ("directory", "project", "output")} == fields


def test_the_defaults_of_the_command_are_those_of_options() -> None:
    defaults = msgspec.structs.asdict(Options(image="oj"))
    for name, value in manifest.make_context("manifest", ["--image", "oj"]).params.items():
        if name in defaults:
            assert (value or "") == (defaults[name] or ""), name
    where = Cluster()._asdict()
    params = connect.make_context("connect", []).params
    assert {name: params[name] for name in where} == where


def test_the_manifest_is_all_of_stdout(cli: Harness) -> None:
    (cli.work / "token").write_text(f"{TOKEN}\n")
    result = cli.oj("daemon", "manifest", *IMAGE, "--token-file", "token")
    expected = objects(Options(image=IMAGE[1], token=Secret(TOKEN)))
    assert (result.code, result.err) == (0, "")
    assert [*yaml.safe_load_all(result.out)] == expected
    listed = cli.oj("daemon", "manifest", *IMAGE, "--token-file", "token", "-o", "json")
    assert (listed.code, listed.err) == (0, "")
    assert listed.json == {"apiVersion": "v1", "kind": "List", "items": expected}


def test_a_token_is_made_anew_each_time_and_how_to_keep_it_is_said(cli: Harness) -> None:
    results = [cli.oj("daemon", "manifest", *IMAGE, "--name", "jobs") for _ in range(2)]
    tokens = [secret_of(result.out) for result in results]
    assert tokens[0] != tokens[1]
    for token, result in zip(tokens, results, strict=True):
        assert token is not None
        assert len(token) >= 43
        assert result.err == (
            "A token was made for this manifest. To keep it when you apply another: --token-secret oj-daemon-jobs-token\n"
        )
        assert token not in result.err


def test_a_token_comes_from_stdin_or_stays_in_its_secret(cli: Harness) -> None:
    done = subprocess.run(
        ["oj", "daemon", "manifest", *IMAGE, "--token-file", "-"],
        input=TOKEN, capture_output=True, text=True, check=True, env=cli.environ, cwd=cli.work,
    )  # fmt: skip
    assert (secret_of(done.stdout), done.stderr) == (TOKEN, "")
    kept = cli.oj("daemon", "manifest", *IMAGE, "--token-secret", "mine")
    assert (secret_of(kept.out), kept.err) == (None, "")


def test_options_reach_the_manifest(cli: Harness) -> None:
    (cli.work / "pod.yaml").write_text("spec: {nodeSelector: {pool: agents}}\n")
    result = cli.oj(
        "daemon", "manifest", *IMAGE, "--token-secret", "mine", "--replicas", "2", "--drain", "60",
        "--tls-name", "a.example.com", "--tls-name", "b.example.com", "--egress-port", "80",
        "--create-namespace", "--namespace", "ci", "--agent-pod-template", "pod.yaml", "--webhook-secret", "chat",
        "--webhook-signed", "--service-type", "NodePort", "--agent-cpu-limit", "4", "--storage-class", "shared",
    )  # fmt: skip
    assert result.code == 0
    assert [*yaml.safe_load_all(result.out)] == objects(
        Options(
            image=IMAGE[1],
            token_secret="mine",
            replicas=2,
            drain_seconds=60,
            tls_names=("a.example.com", "b.example.com"),
            egress_ports=(80,),
            create_namespace=True,
            namespace="ci",
            agent_pod_template="spec: {nodeSelector: {pool: agents}}\n",
            webhook_secret="chat",
            webhook_signed=True,
            service_type="NodePort",
            agent_cpu_limit="4",
            storage_class="shared",
        )
    )
    assert "oj-daemon-state is part of this manifest" in result.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "Missing option '--image'"),
        ([*IMAGE, "--storage-size", "10 GB"], 1, "Hint: write it like 512Mi or 4Gi"),
        ([*IMAGE, "--namespace", "A"], 1, "--namespace 'A': not a name for Kubernetes"),
        ([*IMAGE, "--replicas", "2", "--access-mode", "ReadWriteOnce"], 1, "Hint: add --access-mode ReadWriteMany"),
        ([*IMAGE, "--replicas", "0"], 2, "0 is not in the range"),
        ([*IMAGE, "--egress-port", "65536"], 2, "65536 is not in the range"),
        ([*IMAGE, "--token-file", "missing"], 1, "--token-file missing: "),
        ([*IMAGE, "--token-file", "binary"], 1, "--token-file binary: "),
        ([*IMAGE, "--token-file", "short"], 1, "Hint: make one: openssl rand -hex 32 > token"),
        ([*IMAGE, "--token-file", "short", "--token-secret", "mine"], 1, "Hint: leave out --token-file or --token-secret"),
        ([*IMAGE, "--agent-pod-template", "missing"], 1, "--agent-pod-template missing: "),
        ([*IMAGE, "--agent-pod-template", "broken"], 1, "--agent-pod-template broken: not YAML"),
        ([*IMAGE, "--agent-pod-template", "short"], 1, "expected fields of a pod"),
        ([*IMAGE, "--token", "secret"], 2, "No such option"),
    ],
)  # fmt: skip
def test_what_cannot_work_prints_no_manifest(
    cli: Harness, words: list[str], code: int, said: str
) -> None:
    (cli.work / "short").write_text("short")
    (cli.work / "broken").write_text("a: [")
    (cli.work / "binary").write_bytes(b"\xff\xfe")
    result = cli.oj("daemon", "manifest", *words)
    assert (result.code, result.out) == (code, "")
    assert said in result.err
    assert "Traceback" not in result.err


def test_neither_command_loads_the_cluster_library_unless_a_cluster_is_asked() -> None:
    for words in (["manifest", *IMAGE], ["connect"]):
        loaded = modules_of(["daemon", *words])
        assert loaded.any_of("kubernetes", "aiohttp", "asyncio", "ssl", "rich") == set()
        assert "Traceback" not in loaded.stderr


# --- connect ---


@pytest.fixture
def cluster(cli: Harness, tmp_path: Path) -> Iterator[ClusterApi]:
    """A cluster in which nobody answers at the daemon's port; KUBECONFIG of nobody but this test."""
    server = ClusterApi().start()
    made = {each["kind"]: each for each in objects(Options(image="oj", token=Secret(TOKEN)))}
    space = "/api/v1/namespaces/oj"
    secret = made["Secret"]
    data = {"token": base64.b64encode(TOKEN.encode()).decode()}
    server.objects = {
        "/apis/apps/v1/namespaces/oj/statefulsets/oj-daemon": made["StatefulSet"],
        f"{space}/services/oj-daemon": made["Service"],
        f"{space}/secrets/oj-daemon-token": {"metadata": secret["metadata"], "data": data},
        f"{space}/pods": {"items": []},
    }
    cli.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    yield server
    server.close()


def ask(cli: Harness, cluster: ClusterApi, *words: str) -> tuple[str, ...]:
    kubeconfig = str(cluster.kubeconfig(cli.work))
    # Nothing listens there, so no fingerprint is found either.
    return ("daemon", "connect", "--kube", "--kubeconfig", kubeconfig, "--local-port", "1", *words)


def test_without_being_asked_for_the_token_is_neither_printed_nor_written(
    cli: Harness, cluster: ClusterApi, tmp_path: Path
) -> None:
    result = cli.oj(*ask(cli, cluster))
    path = tmp_path / "config" / "oj" / "tokens" / "test.oj.oj-daemon"
    assert (result.code, result.out) == (0, "export OJ_DAEMON_URL=tls://127.0.0.1:1\n")
    assert (
        f"Token: key `token` of Secret oj-daemon-token in namespace oj; --save writes it to {path}"
        in result.err
    )
    assert "Keep this running meanwhile: kubectl " in result.err
    assert TOKEN not in result.err
    assert not path.exists()


def test_a_saved_token_is_named_by_its_file_from_then_on(
    cli: Harness, cluster: ClusterApi, tmp_path: Path
) -> None:
    path = tmp_path / "config" / "oj" / "tokens" / "test.oj.oj-daemon"
    for words in (["--save"], []):
        result = cli.oj(*ask(cli, cluster, *words))
        assert result.out.splitlines()[1:] == [f"export OJ_AUTH_TOKEN_FILE={path}"]
        assert path.read_text() == TOKEN
        assert TOKEN not in result.out + result.err


def test_the_token_is_shown_on_request_and_a_shell_takes_it(
    cli: Harness, cluster: ClusterApi
) -> None:
    shown = cli.oj(*ask(cli, cluster, "--show-token")).out
    done = subprocess.run(
        ["sh", "-c", f'{shown}\nprintf %s "$OJ_DAEMON_URL $OJ_AUTH_TOKEN"'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"tls://127.0.0.1:1 {TOKEN}"
    result = cli.oj(*ask(cli, cluster, "--show-token", "-o", "json"))
    assert result.json["settings"] == {"OJ_DAEMON_URL": "tls://127.0.0.1:1", "OJ_AUTH_TOKEN": TOKEN}
    assert result.json["notes"][0].startswith("Keep this running meanwhile: kubectl ")


def test_a_token_that_cannot_be_read_cannot_be_saved(cli: Harness, cluster: ClusterApi) -> None:
    cluster.forbidden.add("/api/v1/namespaces/oj/secrets/oj-daemon-token")
    result = cli.oj(*ask(cli, cluster, "--save"))
    assert (result.code, result.out) == (1, "")
    assert "Error: the token is not known here: key `token` of Secret oj-daemon-token" in result.err
    assert "Hint: set OJ_AUTH_TOKEN_FILE" in result.err
    plain = cli.oj(*ask(cli, cluster))
    assert (plain.code, plain.out) == (0, "export OJ_DAEMON_URL=tls://127.0.0.1:1\n")
    assert "--save writes it" not in plain.err


def test_a_daemon_that_is_not_there_is_an_error_with_the_next_command(
    cli: Harness, cluster: ClusterApi
) -> None:
    result = cli.oj(*ask(cli, cluster, "--name", "other", "-o", "json"))
    assert result.code == 1
    assert result.json["error"]["message"] == "find the daemon other in namespace oj: there is none"
    assert "kubectl get statefulsets" in result.json["error"]["hint"]


def test_two_ways_to_get_the_token_exclude_each_other(cli: Harness) -> None:
    result = cli.oj("daemon", "connect", "--save", "--show-token")
    assert result.code == 2
    assert "exclude each other" in result.err


def test_options_of_a_cluster_are_not_ignored_without_one(cli: Harness) -> None:
    result = cli.oj("daemon", "connect", "--local-port", "7777")
    assert result.code == 2
    assert "--local-port is for a cluster: add --kube" in result.err


def test_a_daemon_elsewhere_is_not_taken_for_the_one_of_this_machine(
    cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OJ_DAEMON_URL", "tls://far.example:7777")
    result = cli.oj("daemon", "connect")
    assert (result.code, result.out) == (1, "")
    assert "OJ_DAEMON_URL=tls://far.example:7777 is the way" in result.err


def test_without_a_daemon_there_is_nothing_to_connect_to(cli: Harness) -> None:
    assert cli.oj("daemon", "connect") == (
        1, "", "Error: Daemon not running\nHint: oj daemon start\n",
    )  # fmt: skip


def test_the_daemon_of_this_machine_tells_its_port_or_that_it_has_none(daemon_cli: Harness) -> None:
    def info(port: str) -> dict[str, object]:
        chosen = {"tcp_port": port, "tcp_bind": "192.0.2.4", "tls": "yes", "token": "***"}
        return {
            "type": "DaemonInfo",
            "tls_fingerprint": "ab" * 32,
            "settings": [
                {"name": name, "value": value, "reason": f"OJ_{name.upper()}"}
                for name, value in chosen.items()
            ],
        }

    daemon_cli.daemon.answer("DaemonStatus", info("7777"))
    result = daemon_cli.oj("daemon", "connect", "-o", "json")
    assert json.loads(result.out)["settings"] == {
        "OJ_DAEMON_URL": "tls://192.0.2.4:7777",
        "OJ_TLS_FINGERPRINT": "ab" * 32,
    }
    assert result.err.startswith("Token: the one that the daemon was started with (OJ_TOKEN)\n")
    daemon_cli.daemon.answer("DaemonStatus", info("off"))
    refused = daemon_cli.oj("daemon", "connect")
    assert (refused.code, refused.out) == (1, "")
    assert "unix socket only" in refused.err
    assert "Hint: OJ_TCP_PORT=7777" in refused.err
