"""Tests of oj_daemon/manifest/objects.py: the whole default manifest by value, each option by what it changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from oj_daemon import settings
from oj_daemon.errors import Rejected
from oj_daemon.manifest.objects import as_list, objects, render
from oj_daemon.manifest.options import Options
from oj_daemon.settings import Secret
from tests.support import openapi
from tests.support.podsecurity import strict_violations

DATA = Path(__file__).resolve().parents[2] / "data" / "manifest"
IMAGE = "registry.example.com/oj-daemon:1.2.3"
DEFAULT = Options(image=IMAGE, token=Secret("a-token-of-the-tests"))
EVERYTHING = Options(
    image=IMAGE,
    name="jobs",
    namespace="ci",
    create_namespace=True,
    replicas=2,
    image_pull_secret="registry",
    token=Secret("a-token-of-the-tests"),
    tls_secret="cert",
    webhook_secret="chat",
    webhook_signed=True,
    service_type="LoadBalancer",
    storage_class="shared",
    storage_size="20Gi",
    drain_seconds=60,
    egress_ports=(16443,),
    agent_egress_ports=(3128,),
    agent_image="registry.example.com/oj-agent:1",
    agent_credential_secret="claude",
    agent_ssh_secret="deploy-key",
    agent_git_secret="git-login",
    agent_git_url="https://git.example.com",
    agent_cpu_request="1",
    agent_cpu_limit="4",
    agent_memory_request="1Gi",
    agent_memory_limit="8Gi",
    agent_ephemeral_request="2Gi",
    agent_ephemeral_limit="16Gi",
    agent_pod_template="spec:\n  nodeSelector:\n    pool: agents\n",
)
LOCAL = Options(image=IMAGE, runtime="local", token_secret="mine")

Object = dict[str, Any]


def of(options: Options, kind: str, name: str = "") -> Object:
    """The one object of this kind, or of this kind and name."""
    found = [
        each
        for each in objects(options)
        if each["kind"] == kind and (not name or each["metadata"]["name"] == name)
    ]
    assert len(found) == 1, found
    return found[0]


def pod(options: Options) -> Object:
    spec: Object = of(options, "StatefulSet")["spec"]["template"]["spec"]
    return spec


def container(options: Options) -> Object:
    (only,) = pod(options)["containers"]
    made: Object = only
    return made


def environ(options: Options) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container(options)["env"]}


def changed(options: Options, base: Options = DEFAULT) -> list[tuple[str, Object]]:
    """What the objects of `options` have and those of `base` have not, object by object."""
    before = {(each["kind"], each["metadata"]["name"]): each for each in objects(base)}
    after = {(each["kind"], each["metadata"]["name"]): each for each in objects(options)}
    return [
        (f"{kind}/{name}", each)
        for (kind, name), each in after.items()
        if each != before.get((kind, name))
    ]


@pytest.mark.parametrize(
    ("file", "options"),
    [("default.yaml", DEFAULT), ("everything.yaml", EVERYTHING), ("local.yaml", LOCAL)],
)
def test_the_whole_manifest_is_as_it_was_reviewed(file: str, options: Options) -> None:
    text = (DATA / file).read_text()
    assert objects(options) == [*yaml.safe_load_all(text)]
    assert render(objects(options)) == text


ALL = pytest.mark.parametrize("options", [DEFAULT, EVERYTHING, LOCAL])


@ALL
def test_kubernetes_knows_every_field(options: Options) -> None:
    for each in objects(options):
        assert openapi.problems(each) == [], each["kind"]


@ALL
def test_the_pod_keeps_to_the_restricted_profile(options: Options) -> None:
    template = of(options, "StatefulSet")["spec"]["template"]
    assert strict_violations(template["spec"], template["metadata"].get("annotations")) == []
    assert container(options)["securityContext"]["readOnlyRootFilesystem"] is True
    writable = [each for each in container(options)["volumeMounts"] if not each.get("readOnly")]
    assert [each["mountPath"] for each in writable] == ["/var/lib/oj", "/tmp"]


@ALL
def test_whatever_is_mounted_is_a_volume_and_the_other_way_round(options: Options) -> None:
    spec = of(options, "StatefulSet")["spec"]
    mounts = [each["name"] for each in container(options)["volumeMounts"]]
    volumes = [each["name"] for each in pod(options)["volumes"]]
    volumes += [each["metadata"]["name"] for each in spec.get("volumeClaimTemplates", ())]
    assert sorted(mounts) == sorted(volumes)


@ALL
def test_no_secret_stands_anywhere_but_in_the_secret(options: Options) -> None:
    others = [each for each in objects(options) if each["kind"] != "Secret"]
    assert "a-token-of-the-tests" not in json.dumps(others)


def test_the_rights_are_these_and_no_more() -> None:
    rights = {
        (group, resource, verb)
        for rule in of(DEFAULT, "Role")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    expected = {
        ("", "pods"): "create get list watch delete",
        ("", "pods/log"): "get",
        ("", "secrets"): "create patch delete",
        ("", "events"): "create patch list",
        ("coordination.k8s.io", "leases"): "create get update",
    }
    assert rights == {(*what, verb) for what, verbs in expected.items() for verb in verbs.split()}
    assert not any("resourceNames" in rule for rule in of(DEFAULT, "Role")["rules"])


def test_a_daemon_that_runs_everything_itself_may_only_hold_its_lease() -> None:
    (rule,) = of(LOCAL, "Role")["rules"]
    assert rule["resources"] == ["leases"]
    assert [each["metadata"]["name"] for each in objects(LOCAL) if each["kind"] == "NetworkPolicy"] == ["oj-daemon"]  # fmt: skip


@ALL
def test_nothing_reaches_beyond_the_namespace(options: Options) -> None:
    made = objects(options)
    assert not {each["kind"] for each in made} & {"ClusterRole", "ClusterRoleBinding"}
    spaces = {each["metadata"].get("namespace") for each in made if each["kind"] != "Namespace"}
    assert spaces == {options.namespace}
    (subject,) = of(options, "RoleBinding")["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": options.name, "namespace": options.namespace}  # fmt: skip


def test_the_credentials_of_the_api_are_mounted_in_the_daemon_alone() -> None:
    assert of(DEFAULT, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod(DEFAULT)["automountServiceAccountToken"] is True


def test_service_and_policies_select_the_pods_of_the_daemon() -> None:
    labels = of(DEFAULT, "StatefulSet")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        of(DEFAULT, "Service")["spec"]["selector"],
        of(DEFAULT, "StatefulSet")["spec"]["selector"]["matchLabels"],
        of(DEFAULT, "NetworkPolicy", "oj-daemon")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels for selector in selectors)


@ALL
def test_the_daemon_understands_what_its_pod_is_told(options: Options, tmp_path: Path) -> None:
    told = environ(options)
    for name, value in told.items():
        if value.startswith("/etc/oj/") and name.endswith("_FILE"):
            file = tmp_path / name
            file.write_text("https://chat.example.com/hook" if "URL" in name else "secret\n")
            told[name] = str(file)
    told |= {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "OJ_POD_NAME": f"{options.name}-0"}
    decided = settings.load(told, root=tmp_path)
    assert decided.warnings == ()
    assert decided.profile == "cluster"
    assert decided.state_folder == "/var/lib/oj"
    assert (decided.runtime, decided.lease) == (options.runtime, "on")
    assert (decided.lease_name, decided.pod_name) == (options.name, f"{options.name}-0")
    assert (decided.tcp_port, decided.http_port) == (7777, 8080)
    assert decided.token.reveal() == "secret"
    assert decided.drain_ms == 1000 * options.drain_seconds
    assert bool(decided.tls_cert) == bool(options.tls_secret) == (not decided.tls_names)
    assert bool(decided.webhook) == bool(options.webhook_secret)
    assert bool(decided.webhook_secret) == options.webhook_signed
    by_name = {choice.name for choice in decided.reasons if choice.reason.startswith("OJ_")}
    assert by_name >= {"runtime", "tcp_port", "http_port", "lease", "token", "drain_timeout_ms"}


@ALL
def test_probes_and_ports_are_those_of_the_daemon(options: Options) -> None:
    made = container(options)
    assert {each["name"]: each["containerPort"] for each in made["ports"]} == {"oj": 7777, "http": 8080}  # fmt: skip
    probes = {kind: made[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}  # fmt: skip
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert pod(options)["terminationGracePeriodSeconds"] == options.drain_seconds + 15


def test_a_single_daemon_has_a_volume_of_its_own_that_outlives_it() -> None:
    spec = of(DEFAULT, "StatefulSet")["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}  # fmt: skip
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    narrow = replace(DEFAULT, access_mode="ReadWriteOnce", storage_class="fast", storage_size="1Gi")
    (claim,) = of(narrow, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "fast",
    }


def test_standbys_share_one_volume_and_are_not_waited_for() -> None:
    two = replace(DEFAULT, replicas=2)
    spec = of(two, "StatefulSet")["spec"]
    claim = of(two, "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    (state,) = [each for each in pod(two)["volumes"] if each["name"] == "state"]
    assert state["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
    assert "volumeClaimTemplates" not in spec
    # A standby is never ready: these two are what keeps a cluster from waiting until it is.
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["updateStrategy"] == {"type": "OnDelete"}
    (spread,) = pod(two)["topologySpreadConstraints"]
    assert spread["labelSelector"] == spec["selector"] | {"matchLabels": spec["selector"]["matchLabels"]}  # fmt: skip


def test_another_token_means_another_pod() -> None:
    def version(options: Options) -> str | None:
        metadata = of(options, "StatefulSet")["spec"]["template"]["metadata"]
        found: str | None = metadata.get("annotations", {}).get("oj.dev/token-version")
        return found

    assert version(DEFAULT) == version(replace(DEFAULT, image="other"))
    assert version(DEFAULT) != version(replace(DEFAULT, token=Secret("another-token-of-tests")))
    assert version(LOCAL) is None


def test_a_secret_that_exists_is_named_and_not_made() -> None:
    named = replace(DEFAULT, token=Secret(""), token_secret="mine")
    assert [each["kind"] for each in objects(named)].count("Secret") == 0
    (token,) = [each for each in pod(named)["volumes"] if each["name"] == "token"]
    assert token["secret"]["secretName"] == "mine"
    assert token["secret"]["items"] == [{"key": "token", "path": "token"}]
    assert token["secret"]["defaultMode"] == 0o440


@pytest.mark.parametrize(
    ("changes", "where", "expected"),
    [
        ({"create_namespace": True}, ["Namespace/oj"], {}),
        ({"image": "other"}, ["StatefulSet/oj-daemon"], {}),
        ({"image_pull_secret": "r"}, ["StatefulSet/oj-daemon"], {"OJ_K8S_PULL_SECRETS": "r"}),
        ({"service_type": "NodePort"}, ["Service/oj-daemon"], {}),
        ({"drain_seconds": 90}, ["StatefulSet/oj-daemon"], {"OJ_DRAIN_TIMEOUT_MS": "90000"}),
        ({"cpu_limit": "4"}, ["StatefulSet/oj-daemon"], {}),
        ({"memory_request": "1Gi"}, ["StatefulSet/oj-daemon"], {}),
        ({"egress_ports": (80,)}, ["NetworkPolicy/oj-daemon"], {}),
        ({"agent_egress_ports": (80,)}, ["NetworkPolicy/oj-daemon-agents"], {}),
        (
            {"tls_names": ("oj.example.com",)},
            ["StatefulSet/oj-daemon"],
            {
                "OJ_TLS_NAMES": "oj-daemon,oj-daemon.oj,oj-daemon.oj.svc,oj-daemon.oj.svc.cluster.local,"
                "localhost,127.0.0.1,oj.example.com"
            },
        ),
        (
            {"webhook_secret": "chat"},
            ["StatefulSet/oj-daemon"],
            {"OJ_NOTIFY_WEBHOOK_URL_FILE": "/etc/oj/webhook/url"},
        ),
        ({"agent_image": "i"}, ["StatefulSet/oj-daemon"], {"OJ_K8S_IMAGE": "i"}),
        ({"agent_ssh_secret": "k"}, ["StatefulSet/oj-daemon"], {"OJ_K8S_SSH_SECRET": "k"}),
        (
            {"agent_git_secret": "g", "agent_git_url": "http://h:3000/"},
            ["StatefulSet/oj-daemon"],
            {"OJ_K8S_GIT_SECRET": "g", "OJ_K8S_GIT_URL": "http://h:3000/"},
        ),
        ({"agent_credential_secret": "c"}, ["StatefulSet/oj-daemon"], {"OJ_K8S_CREDENTIAL_SECRET": "c"}),
        ({"agent_cpu_request": "1"}, ["StatefulSet/oj-daemon"], {"OJ_K8S_CPU_REQUEST": "1"}),
        ({"agent_memory_limit": "64Gi"}, ["StatefulSet/oj-daemon"], {"OJ_K8S_MEMORY_LIMIT": "64Gi"}),
        ({"agent_ephemeral_limit": "64Gi"}, ["StatefulSet/oj-daemon"], {"OJ_K8S_EPHEMERAL_LIMIT": "64Gi"}),
        (
            {"agent_pod_template": "spec: {}\n"},
            ["ConfigMap/oj-daemon-agent-pod", "StatefulSet/oj-daemon"],
            {"OJ_K8S_POD_TEMPLATE": "/etc/oj/agent-pod/pod.yaml"},
        ),
    ],
)  # fmt: skip
def test_an_option_changes_what_it_is_about_and_nothing_else(
    changes: dict[str, Any], where: list[str], expected: dict[str, str]
) -> None:
    options = replace(DEFAULT, **changes)
    assert [name for name, _ in changed(options)] == where
    before = environ(DEFAULT)
    assert {name: value for name, value in environ(options).items() if before.get(name) != value} == expected  # fmt: skip


def test_figures_are_not_shown_outside_of_the_cluster() -> None:
    def ports(service_type: str) -> list[int]:
        spec = of(replace(DEFAULT, service_type=service_type), "Service")["spec"]
        return [each["port"] for each in spec["ports"]]

    assert ports("ClusterIP") == [7777, 8080]
    assert ports("LoadBalancer") == ports("NodePort") == [7777]


def test_places_are_reached_by_the_daemon_alone_and_reach_little() -> None:
    spec = of(DEFAULT, "NetworkPolicy", "oj-daemon-agents")["spec"]
    daemon = of(DEFAULT, "StatefulSet")["spec"]["selector"]
    assert spec["podSelector"] == {"matchLabels": {"app": "oj-agent"}}
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    (into,) = spec["ingress"]
    assert into == {"from": [{"podSelector": daemon}], "ports": [{"protocol": "TCP", "port": 8080}]}
    dns, to_daemon, outside = spec["egress"]
    assert [each["port"] for each in dns["ports"]] == [53, 53]
    assert to_daemon == {"to": [{"podSelector": daemon}], "ports": [{"protocol": "TCP", "port": 7777}]}  # fmt: skip
    assert [each["port"] for each in outside["ports"]] == [443, 22]


def test_two_daemons_in_one_namespace_do_not_meet() -> None:
    names = [
        {(each["kind"], each["metadata"]["name"]) for each in objects(replace(DEFAULT, name=name))}
        for name in ("one", "two")
    ]
    assert not names[0] & names[1]
    assert environ(replace(DEFAULT, name="one"))["OJ_LEASE_NAME"] == "one"


def test_a_list_holds_the_same_objects() -> None:
    assert as_list(objects(DEFAULT)) == {"apiVersion": "v1", "kind": "List", "items": objects(DEFAULT)}  # fmt: skip


def test_what_cannot_work_makes_no_objects() -> None:
    with pytest.raises(Rejected):
        objects(replace(DEFAULT, replicas=2, access_mode="ReadWriteOncePod"))
