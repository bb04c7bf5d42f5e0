"""Tests of oj_daemon/adapters/kubernetes/pod.py: whole pods by value, one option at a time, and what is refused."""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oj_daemon.adapters.kubernetes.pod import (
    Clone,
    Defaults,
    GitLogin,
    KeyOf,
    PodPlan,
    Probe,
    Probes,
    Ssh,
    Workspace,
    build,
    build_secret,
    owner_of,
    stranger,
)
from oj_daemon.errors import Rejected
from oj_daemon.settings import Secret
from tests.support import openapi, podsecurity

DATA = Path(__file__).resolve().parents[3] / "tests" / "data" / "kubernetes"
IMAGE = "registry.example.com/oj-agent:1"
PLAN = PodPlan(
    name="oj-job-0123456789abcdef",
    namespace="oj",
    instance="2f0c8a2e-6f0f-4a52-9e25-3d5f3a1d7c11",
    project="demo",
    job_id="job-0123456789abcdef",
    spawn="s1",
    image=IMAGE,
)
CLONE = Clone(url="https://git.example.com/team/app.git", branch="main", depth=50)
OPTIONS = {"default": PLAN, "clone": msgspec.structs.replace(PLAN, clone=CLONE)}


class Gone:
    """Stands for a field that is not there."""


GONE = Gone()


def golden(name: str) -> dict[str, Any]:
    pod: dict[str, Any] = json.loads((DATA / f"place-{name}.json").read_text())
    return pod


def changed(pod: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of a pod in which some paths have other values; numbers are places in lists, a + is one more at its end."""
    pod = copy.deepcopy(pod)
    for path, value in changes.items():
        *way, last = path.split("/")
        part: Any = pod
        for step in way:
            part = part[int(step)] if isinstance(part, list) else part[step]
        if value is GONE:
            del part[int(last) if isinstance(part, list) else last]
        elif last.startswith("+"):
            at = int(last[1:]) if last[1:] else len(part)
            part[at:at] = value
        else:
            part[int(last) if isinstance(part, list) else last] = value
    return pod


def planned(**options: Any) -> PodPlan:
    return msgspec.structs.replace(PLAN, **options)


def made(plan: PodPlan) -> dict[str, Any]:
    """The pod of a plan, which every restricted namespace and the API's own types have to take."""
    built = build(plan)
    assert podsecurity.strict_violations(built.pod["spec"], built.pod["metadata"]["annotations"]) == []  # fmt: skip
    assert openapi.problems(built.pod) == []
    assert built.left_out == ()
    return built.pod


AGENT, INIT, VOLUMES = "spec/containers/0", "spec/initContainers", "spec/volumes"


def secret_env(name: str, secret: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, **more}}}


def resources(
    cpu: str = "250m 2", memory: str = "512Mi 4Gi", ephemeral: str = "1Gi 8Gi", **more: str
) -> dict[str, Any]:
    pairs = {"cpu": cpu, "memory": memory, "ephemeral-storage": ephemeral, **more}
    return {
        kind: {name: pair.split()[at] for name, pair in pairs.items()}
        for at, kind in enumerate(("requests", "limits"))
    }


def test_the_default_pod_is_as_it_was_written_down() -> None:
    assert made(PLAN) == golden("default")


def test_the_pod_with_a_clone_is_as_it_was_written_down() -> None:
    assert made(planned(clone=CLONE)) == golden("clone")


SSH = Ssh(secret="deploy")
SSH_MOUNT = {"name": "ssh", "mountPath": "/etc/oj/ssh", "readOnly": True}
SSH_ENV = {
    "name": "GIT_SSH_COMMAND",
    "value": "ssh -i /etc/oj/ssh/id -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes"
    " -o UserKnownHostsFile=/etc/oj/ssh/known_hosts",
}
SSH_VOLUME = {
    "name": "ssh",
    "secret": {
        "secretName": "deploy",
        "defaultMode": 0o400,
        "items": [
            {"key": "ssh-privatekey", "path": "id"},
            {"key": "known_hosts", "path": "known_hosts"},
        ],
    },
}
LOGIN = GitLogin(secret="git-login", server="https://GIT.example.com/")
LOGIN_MOUNT = {"name": "git", "mountPath": "/etc/oj/git", "readOnly": True}
LOGIN_VOLUME = {"name": "git", "secret": {"secretName": "git-login", "defaultMode": 0o400}}


def login_env(server: str) -> list[dict[str, str]]:
    return [
        {"name": "GIT_CONFIG_KEY_1", "value": "credential.helper"},
        {"name": "GIT_CONFIG_VALUE_1", "value": ""},
        {"name": "GIT_CONFIG_KEY_2", "value": f"credential.{server}.helper"},
        {
            "name": "GIT_CONFIG_VALUE_2",
            "value": '!f() { test "$$1" = get || exit 0; user=; while IFS== read -r name value; do test "$$name" != username'
            " || user=$$value; done; cd /etc/oj/git || exit; test ! -s username || user=$$(cat username); "
            'printf "username=%s\\npassword=%s\\n" "$${user:-x-access-token}" "$$(cat password)"; }; f',
        },
    ]


EXTRA = {"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}


def templated(**spec: Any) -> dict[str, Any]:
    return {"templates": (("container { pod }", {"spec": spec}),)}


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a crew": (
        {"job_id": "", "crew_id": "crw-0123456789abcdef"},
        {
            "metadata/labels/oj.dev~crew-id": "crw-0123456789abcdef",
            "metadata/labels/oj.dev~job-id": GONE,
        },
    ),
    "an agent of its own": (
        {"agent_id": "agt-0123456789abcdef"},
        {"metadata/labels/oj.dev~agent-id": "agt-0123456789abcdef"},
    ),
    "a project with a name that no label can have": (
        {"project": "Über uns (v2)"},
        {
            "metadata/labels/oj.dev~project": "ber-uns--v2",
            "metadata/annotations/oj.dev~project": "Über uns (v2)",
        },
    ),
    "no project and no spawn": (
        {"project": "", "spawn": ""},
        {
            "metadata/labels/oj.dev~project": GONE,
            "metadata/annotations/oj.dev~project": GONE,
            "metadata/annotations/oj.dev~spawn": GONE,
        },
    ),
    "labels and annotations": (
        {
            "labels": {"team": "a", "kueue.x-k8s.io/queue-name": "main", "app": "mine"},
            "annotations": {"example.com/why": "because", "cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
        },
        {
            "metadata/labels/team": "a",
            "metadata/labels/kueue.x-k8s.io~queue-name": "main",
            "metadata/annotations/example.com~why": "because",
            "metadata/annotations/cluster-autoscaler.kubernetes.io~safe-to-evict": "true",
        },
    ),
    "how the image is pulled": (
        {"pull_policy": "Always", "pull_secrets": ("registry",)},
        {"spec/imagePullSecrets": [{"name": "registry"}], f"{AGENT}/imagePullPolicy": "Always"},
    ),
    "a command line of its own": (
        {"command": ("oj-sidecar",), "args": ("--agent", "claude", "--", "bash", "-c", 'claude "$@" $(x) $$')},
        {
            f"{AGENT}/command": ["oj-sidecar"],
            f"{AGENT}/args": ["--agent", "claude", "--", "bash", "-c", 'claude "$$@" $$(x) $$$$'],
        },
    ),
    "plain variables, of which HOME is free": (
        {"env": {"HOME": "/workspace/home", "COST": "$(OJ_SIDECAR_PORT) $5"}},
        {
            f"{AGENT}/env/0": {"name": "HOME", "value": "/workspace/home"},
            f"{AGENT}/env/+4": [{"name": "COST", "value": "$$(OJ_SIDECAR_PORT) $$5"}],
        },
    ),
    "variables from Secrets": (
        {"secret_env": {"DB": KeyOf("db", "url"), "OPT": KeyOf("db", "more", optional=True)}},
        {f"{AGENT}/env/+4": [secret_env("DB", "db", "url"), secret_env("OPT", "db", "more", optional=True)]},
    ),
    "variables from the place's own Secret": (
        {"private_env": ("OJ_AUTH_TOKEN",)},
        {f"{AGENT}/env/+4": [secret_env("OJ_AUTH_TOKEN", PLAN.name, "env.OJ_AUTH_TOKEN")]},
    ),
    "credentials of the agent": (
        {"credential_secret": "claude", "credential_names": ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")},
        {
            f"{AGENT}/env/+4": [
                secret_env("ANTHROPIC_API_KEY", "claude", "ANTHROPIC_API_KEY", optional=True),
                secret_env("CLAUDE_CODE_OAUTH_TOKEN", "claude", "CLAUDE_CODE_OAUTH_TOKEN", optional=True),
            ]
        },
    ),
    "credentials that the runbook sets itself": (
        {"credential_secret": "claude", "credential_names": ("A",), "secret_env": {"A": KeyOf("own", "key")}},
        {f"{AGENT}/env/+4": [secret_env("A", "own", "key")]},
    ),
    "credentials without a Secret": ({"credential_names": ("ANTHROPIC_API_KEY",)}, {}),
    "a configuration file": (
        {"has_config": True},
        {
            f"{AGENT}/env/+": [{"name": "OJ_SIDECAR_AGENT_CONFIG", "value": "/etc/oj/sidecar/config.json"}],
            f"{VOLUMES}/3/secret/items/+": [{"key": "config.json", "path": "config.json"}],
        },
    ),
    "a deploy key": (
        {"ssh": SSH},
        {
            f"{AGENT}/env/+5": [SSH_ENV],
            f"{AGENT}/volumeMounts/+3": [SSH_MOUNT],
            f"{VOLUMES}/+": [SSH_VOLUME],
        },
    ),
    "a login, and nothing to clone": ({"git_login": LOGIN}, {}),
    "cpu and memory": (
        {"cpu": "4", "memory": "8Gi"},
        {f"{AGENT}/resources": resources("4 4", "8Gi 8Gi")},
    ),
    "requests and limits that win over cpu and memory": (
        {"cpu": "4", "requests": {"cpu": "1"}, "limits": {"memory": "6Gi", "ephemeral-storage": "20Gi"}},
        {f"{AGENT}/resources": resources("1 4", "512Mi 6Gi", "1Gi 20Gi")},
    ),
    "defaults that give way": (
        {"requests": {"cpu": "3"}, "limits": {"memory": "256Mi"}},
        {f"{AGENT}/resources": resources("3 3", "256Mi 256Mi")},
    ),
    "other defaults": (
        {"defaults": Defaults(cpu_request="1", cpu_limit="1500m", memory_request="1G", memory_limit="1Gi",
                              ephemeral_request="1", ephemeral_limit="2e9")},
        {f"{AGENT}/resources": resources("1 1500m", "1G 1Gi", "1 2e9")},
    ),
    "a device": (
        {"limits": {"nvidia.com/gpu": "1"}},
        {f"{AGENT}/resources": resources(**{"nvidia.com/gpu": "1 1"})},
    ),
    "other probes": (
        {"probes": Probes(startup=Probe(1, 600, 2), readiness=Probe(9, 4, 3, delay=7), liveness=None)},
        {
            f"{AGENT}/startupProbe": {
                "httpGet": {"path": "/api/v1/health", "port": "sidecar", "scheme": "HTTPS"},
                "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 600,
            },
            f"{AGENT}/readinessProbe": {
                "httpGet": {"path": "/api/v1/health", "port": "sidecar", "scheme": "HTTPS"},
                "periodSeconds": 9, "timeoutSeconds": 3, "failureThreshold": 4, "initialDelaySeconds": 7,
            },
            f"{AGENT}/livenessProbe": GONE,
        },
    ),
    "another port": (
        {"port": 9090},
        {f"{AGENT}/ports/0/containerPort": 9090, f"{AGENT}/env/6/value": "9090"},
    ),
    "plain HTTP": (
        {"tls": False},
        {
            f"{AGENT}/startupProbe/httpGet/scheme": "HTTP",
            f"{AGENT}/readinessProbe/httpGet/scheme": "HTTP",
            f"{AGENT}/livenessProbe/httpGet/scheme": "HTTP",
            f"{VOLUMES}/3/secret/items": [{"key": "token", "path": "token"}],
            f"{AGENT}/env/11": GONE, f"{AGENT}/env/10": GONE, f"{AGENT}/env/9": GONE,
        },
    ),
    "a workspace that is kept": (
        {"workspace": Workspace(path="/data/work", claim="work")},
        {
            f"{VOLUMES}/0": {"name": "workspace", "persistentVolumeClaim": {"claimName": "work"}},
            f"{AGENT}/volumeMounts/0": {"name": "workspace", "mountPath": "/data/work", "subPath": "workspace"},
            f"{AGENT}/workingDir": "/data/work",
            f"{AGENT}/env/3/value": "/data/work",
            f"{AGENT}/env/8/value": "/data/work",
        },
    ),
    "a workspace with a limit": (
        {"workspace": Workspace(size="5Gi")},
        {f"{VOLUMES}/0/emptyDir": {"sizeLimit": "5Gi"}},
    ),
    "another user": (
        {"user": 1000},
        {f"spec/securityContext/{name}": 1000 for name in ("runAsUser", "runAsGroup", "fsGroup")},
    ),
    "another grace period": ({"grace_seconds": 5}, {"spec/terminationGracePeriodSeconds": 5}),
    "where the pod may run": (
        templated(
            nodeSelector={"disk": "ssd"},
            tolerations=[{"key": "agents", "operator": "Exists"}],
            affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}},
            runtimeClassName="gvisor", priorityClassName="agents", serviceAccountName="agent", schedulerName="own",
            topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            imagePullSecrets=[{"name": "registry"}], activeDeadlineSeconds=3600, terminationGracePeriodSeconds=90,
            dnsPolicy="None", dnsConfig={"nameservers": ["10.0.0.1"]}, schedulingGates=[{"name": "wait"}],
        ),
        {
            "spec/nodeSelector": {"disk": "ssd"},
            "spec/tolerations": [{"key": "agents", "operator": "Exists"}],
            "spec/affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}},
            "spec/runtimeClassName": "gvisor", "spec/priorityClassName": "agents", "spec/serviceAccountName": "agent",
            "spec/schedulerName": "own",
            "spec/topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            "spec/imagePullSecrets": [{"name": "registry"}], "spec/activeDeadlineSeconds": 3600,
            "spec/terminationGracePeriodSeconds": 90, "spec/dnsPolicy": "None",
            "spec/dnsConfig": {"nameservers": ["10.0.0.1"]}, "spec/schedulingGates": [{"name": "wait"}],
        },
    ),
    "a volume, a variable and a device for the agent": (
        templated(
            volumes=[EXTRA],
            containers=[{
                "name": "agent", "env": [{"name": "CACHE", "value": "/cache"}],
                "envFrom": [{"configMapRef": {"name": "proxy"}}],
                "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "6Gi"}},
                "securityContext": {"readOnlyRootFilesystem": True, "runAsUser": 1000},
                "imagePullPolicy": "IfNotPresent",
            }],
        ),
        {
            f"{VOLUMES}/+": [EXTRA],
            f"{AGENT}/env/+": [{"name": "CACHE", "value": "/cache"}],
            f"{AGENT}/envFrom": [{"configMapRef": {"name": "proxy"}}],
            f"{AGENT}/volumeMounts/+": [{"name": "cache", "mountPath": "/cache"}],
            f"{AGENT}/resources": resources(memory="512Mi 6Gi", **{"nvidia.com/gpu": "1 1"}),
            f"{AGENT}/securityContext/readOnlyRootFilesystem": True,
            f"{AGENT}/securityContext/runAsUser": 1000,
            f"{AGENT}/imagePullPolicy": "IfNotPresent",
        },
    ),
    "another container": (
        templated(containers=[{"name": "db", "image": "postgres:17", "ports": [{"containerPort": 5432}],
                               "resources": {"requests": {"cpu": "100m"}}}]),
        {
            "spec/containers/+": [{
                "name": "db", "image": "postgres:17", "ports": [{"containerPort": 5432}],
                "resources": resources("100m 2"),
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    ),
    "a template of the operator and one of the runbook on top": (
        {
            "templates": (
                ("OJ_K8S_POD_TEMPLATE", {"metadata": {"labels": {"team": "a"}, "annotations": {"x": "1"}}, "spec": {
                    "nodeSelector": {"disk": "ssd", "zone": "a"}, "tolerations": [{"key": "a"}], "volumes": [EXTRA]}}),
                ("container { pod }", {"metadata": {"labels": {"team": "b"}}, "spec": {
                    "nodeSelector": {"zone": "b"}, "tolerations": [{"key": "a"}, {"key": "b"}],
                    "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}], "affinity": None}}),
            )
        },
        {
            "metadata/labels/team": "b",
            "metadata/annotations/x": "1",
            "spec/nodeSelector": {"disk": "ssd", "zone": "b"},
            "spec/tolerations": [{"key": "a"}, {"key": "b"}],
            f"{VOLUMES}/+": [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_option_changes_its_own_part_of_the_pod_only(case: str) -> None:
    options, changes = CASES[case]
    paths = {path.replace("~", "\1"): value for path, value in changes.items()}
    pod = golden("default")
    for metadata in ("labels", "annotations"):  # names of labels have slashes, and so have paths
        pod["metadata"][metadata] = {
            name.replace("/", "\1"): value for name, value in pod["metadata"][metadata].items()
        }
    expected = changed(pod, paths)
    for metadata in ("labels", "annotations"):
        expected["metadata"][metadata] = {
            name.replace("\1", "/"): value for name, value in expected["metadata"][metadata].items()
        }
    assert made(planned(**options)) == expected


def test_every_field_of_a_plan_is_the_subject_of_a_case() -> None:
    subjects = {name for options, _ in CASES.values() for name in options}
    identity = {
        "name",
        "namespace",
        "instance",
        "image",
        "clone",
    }  # the golden pods, and the tests below
    assert subjects | identity == set(PodPlan.__struct_fields__)


# -- clone ----------------------------------------------------------------------------------------------------------------

CLONE_CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "everything of a branch": (
        {"clone": Clone(url="ssh://git@git.example.com/app.git", branch="main")},
        {f"{INIT}/0/command": [
            "git", "clone", "--origin", "origin", "--branch", "main", "--single-branch", "--",
            "ssh://git@git.example.com/app.git", "/workspace"]},
    ),
    "the remote's own choice": (
        {"clone": Clone(url="git@git.example.com:team/app.git")},
        {f"{INIT}/0/command": [
            "git", "clone", "--origin", "origin", "--single-branch", "--", "git@git.example.com:team/app.git", "/workspace"]},
    ),
    "all branches": (
        {"clone": Clone(url="git://git.example.com/app", branch="main", all_branches=True)},
        {f"{INIT}/0/command": [
            "git", "clone", "--origin", "origin", "--branch", "main", "--", "git://git.example.com/app", "/workspace"]},
    ),
    "names that look like variables": (
        {"clone": Clone(url="https://h/$(ANTHROPIC_API_KEY).git", branch="$(HOME)/$$x")},
        {f"{INIT}/0/command": [
            "git", "clone", "--origin", "origin", "--branch", "$$(HOME)/$$$$x", "--single-branch", "--",
            "https://h/$$(ANTHROPIC_API_KEY).git", "/workspace"]},
    ),
    "another image": (
        {"clone": msgspec.structs.replace(CLONE, image="alpine/git:2"), "pull_policy": "Never"},
        {
            f"{INIT}/0/image": "alpine/git:2",
            f"{INIT}/0/imagePullPolicy": "Never",
            f"{AGENT}/imagePullPolicy": "Never",
        },
    ),
    "a deploy key": (
        {"clone": CLONE, "ssh": SSH},
        {
            f"{INIT}/0/env/+": [SSH_ENV],
            f"{INIT}/0/volumeMounts/+": [SSH_MOUNT],
            f"{AGENT}/env/+5": [SSH_ENV],
            f"{AGENT}/volumeMounts/+3": [SSH_MOUNT],
            f"{VOLUMES}/+": [SSH_VOLUME],
        },
    ),
    "a login, which the agent does not get": (
        {"clone": CLONE, "git_login": LOGIN},
        {
            f"{INIT}/0/env/1/value": "3",
            f"{INIT}/0/env/+4": login_env("https://git.example.com"),
            f"{INIT}/0/volumeMounts/+": [LOGIN_MOUNT],
            f"{VOLUMES}/+": [LOGIN_VOLUME],
        },
    ),
    "a login for the same server, said otherwise": (
        {"clone": msgspec.structs.replace(CLONE, url="https://me@git.example.com:443/a"), "git_login": LOGIN},
        {
            f"{INIT}/0/command/10": "https://me@git.example.com:443/a",
            f"{INIT}/0/env/1/value": "3",
            f"{INIT}/0/env/+4": login_env("https://git.example.com"),
            f"{INIT}/0/volumeMounts/+": [LOGIN_MOUNT],
            f"{VOLUMES}/+": [LOGIN_VOLUME],
        },
    ),
    "a login for another server": (
        {"clone": CLONE, "git_login": GitLogin(secret="git-login", server="https://example.com")}, {},
    ),
    "a login for another port": (
        {"clone": CLONE, "git_login": GitLogin(secret="git-login", server="https://git.example.com:8443")}, {},
    ),
    "a login, and a port that there is not": (
        {"clone": msgspec.structs.replace(CLONE, url="https://git.example.com:99999/a"), "git_login": LOGIN},
        {f"{INIT}/0/command/10": "https://git.example.com:99999/a"},
    ),
    "a login that would be sent in the clear": (
        {"clone": msgspec.structs.replace(CLONE, url="http://git.example.com/a"), "git_login": LOGIN},
        {f"{INIT}/0/command/10": "http://git.example.com/a"},
    ),
    "a login where a key is what is wanted": (
        {"clone": msgspec.structs.replace(CLONE, url="git@git.example.com:a"), "git_login": LOGIN},
        {f"{INIT}/0/command/10": "git@git.example.com:a"},
    ),
    "as much memory as the agent, but none of its devices": (
        {"clone": CLONE, "memory": "8Gi", "limits": {"nvidia.com/gpu": "1"}},
        {
            f"{INIT}/0/resources": resources(memory="8Gi 8Gi"),
            f"{AGENT}/resources": resources(memory="8Gi 8Gi", **{"nvidia.com/gpu": "1 1"}),
        },
    ),
    "a proxy for it": (
        {"clone": CLONE, **templated(
            initContainers=[{"name": "clone", "env": [{"name": "HTTPS_PROXY", "value": "http://p"}]}])},
        {f"{INIT}/0/env/+": [{"name": "HTTPS_PROXY", "value": "http://p"}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CLONE_CASES)
def test_an_option_changes_its_own_part_of_a_pod_with_a_clone(case: str) -> None:
    options, changes = CLONE_CASES[case]
    assert made(planned(**options)) == changed(golden("clone"), changes)


def test_a_ref_is_checked_out_after_everything_was_fetched() -> None:
    plan = planned(clone=Clone(url=CLONE.url, branch="main", ref="v1.2", depth=5))
    first, second = made(plan)["spec"]["initContainers"]
    golden_clone = golden("clone")["spec"]["initContainers"][0]
    fetched = ["git", "clone", "--origin", "origin", "--branch", "main", "--", CLONE.url, "/workspace"]  # fmt: skip
    assert first == golden_clone | {"command": fetched}
    checked_out = ["git", "-C", "/workspace", "checkout", "v1.2", "--"]
    assert second == golden_clone | {"name": "checkout", "command": checked_out}


def test_a_proxy_comes_before_the_clone_and_what_needs_the_clone_after_it() -> None:
    more = [{"name": "deps", "image": "node:22"}, {"name": "proxy", "image": "envoy:1", "restartPolicy": "Always"}]  # fmt: skip
    pod = made(planned(clone=CLONE, **templated(initContainers=more)))
    names = [each["name"] for each in pod["spec"]["initContainers"]]
    assert names == ["proxy", "clone", "deps"]


def test_what_is_meant_for_a_clone_needs_one() -> None:
    template = templated(initContainers=[{"name": "clone", "env": [{"name": "A", "value": "b"}]}])
    assert made(planned(**template)) == golden("default")


def carried_out(container: dict[str, Any]) -> None:
    """What a node does with a container, in a process of this machine."""
    env = {each["name"]: each["value"] for each in container["env"]}

    def expanded(word: str) -> str:
        return re.sub(r"\$\$|\$\((\w+)\)", lambda found: env.get(found[1], found[0]) if found[1] else "$", word)  # fmt: skip

    subprocess.run(
        [expanded(word) for word in container["command"]],
        env={"PATH": os.environ["PATH"], **env},
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize(
    ("branch", "ref", "head"),
    [("main", "", "one"), ("$(HOME)/$$x", "", "two"), ("main", "v1", "one"), ("main", "$(HOME)/$$x", "two")],
)  # fmt: skip
def test_git_understands_the_commands_of_the_clone(
    tmp_path: Path, branch: str, ref: str, head: str
) -> None:
    source, workspace = tmp_path / "source", tmp_path / "workspace"

    def git(folder: Path, *words: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        ran = subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True)  # fmt: skip
        return ran.stdout.strip()

    source.mkdir()
    workspace.mkdir()
    git(source, "init", "-q", "-b", "main")
    git(source, "commit", "-q", "--allow-empty", "-m", "one")
    git(source, "tag", "v1")
    git(source, "checkout", "-q", "-b", "$(HOME)/$$x")
    git(source, "commit", "-q", "--allow-empty", "-m", "two")
    plan = planned(
        clone=Clone(url=source.as_uri(), branch=branch, ref=ref),
        workspace=Workspace(path=str(workspace)),
    )
    for container in made(plan)["spec"]["initContainers"]:
        carried_out(container)
    assert git(workspace, "log", "-1", "--format=%s") == head


# -- its Secret -----------------------------------------------------------------------------------------------------------


def opened(secret: dict[str, Any]) -> dict[str, str]:
    return {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}


def test_the_secret_has_what_the_pod_looks_for_and_the_same_identity() -> None:
    plan = planned(private_env=("OJ_AUTH_TOKEN",), has_config=True)
    secret = build_secret(
        plan, Secret("t0ken"), Secret("KEY"), "CERT", "CA",
        env={"OJ_AUTH_TOKEN": Secret("scoped")}, config='{"prompt": "go"}',
    )  # fmt: skip
    assert openapi.problems(secret) == []
    assert opened(secret) == {
        "token": "t0ken",
        "tls.key": "KEY",
        "tls.crt": "CERT",
        "ca.crt": "CA",
        "config.json": '{"prompt": "go"}',
        "env.OJ_AUTH_TOKEN": "scoped",
    }
    pod = made(plan)
    assert secret["metadata"] == pod["metadata"]
    wanted = {each["key"] for each in pod["spec"]["volumes"][3]["secret"]["items"]}
    assert {*wanted, "env.OJ_AUTH_TOKEN"} == set(secret["data"])
    assert {name: secret[name] for name in ("type", "immutable")} == {"type": "Opaque", "immutable": True}  # fmt: skip


def test_without_tls_the_secret_has_the_token_only() -> None:
    assert opened(build_secret(planned(tls=False), Secret("t"), Secret(""), "", "")) == {"token": "t"}  # fmt: skip


def test_a_secret_that_is_not_the_one_of_its_pod_is_a_bug() -> None:
    with pytest.raises(Rejected, match="not those that the pod will look for"):
        build_secret(planned(private_env=("A",)), Secret("t"), Secret("k"), "c", "a")
    with pytest.raises(Rejected, match="not those that the pod will look for"):
        build_secret(PLAN, Secret("t"), Secret("k"), "c", "a", config="{}")


def test_a_prompt_that_no_secret_can_hold_is_refused() -> None:
    with pytest.raises(Rejected, match="larger than a Secret may be") as refused:
        build_secret(planned(has_config=True), Secret("t"), Secret("k"), "c", "a", config="x" * 2**20)  # fmt: skip
    assert "prompt" in refused.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.com/team/app.git", "https://org@dev.azure.com/org/p/_git/app", "http://10.0.0.1:3000/a",
        "ssh://git@git.example.com:2222/app", "git@git.example.com:team/app.git", "git.example.com:/srv/app.git",
        "git://git.example.com/app", "file:///srv/app.git", "https://[::1]:3000/a.git", "https://h/a%20b.git",
    ],
)  # fmt: skip
def test_urls_of_all_kinds_of_hosts_are_taken(url: str) -> None:
    command = made(planned(clone=Clone(url=url)))["spec"]["initContainers"][0]["command"]
    assert command[-2:] == [url, "/workspace"]


def test_a_secret_goes_together_with_its_pod() -> None:
    pod = {"metadata": {"name": PLAN.name, "uid": "u-1"}}
    owner = owner_of(pod)["metadata"]["ownerReferences"]
    assert [(each["kind"], each["name"], each["uid"]) for each in owner] == [("Pod", PLAN.name, "u-1")]  # fmt: skip


# -- whose pod is it? -----------------------------------------------------------------------------------------------------


def test_the_pod_of_the_same_order_is_adopted_whatever_was_added_to_it() -> None:
    pod = made(PLAN)
    pod["metadata"]["labels"]["istio"] = "yes"
    pod["spec"]["containers"].append({"name": "injected"})
    assert stranger(PLAN, pod) == ""


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("labels/oj.dev\1instance", "other", "another daemon"),
        ("labels/oj.dev\1job-id", "job-other", "another owner"),
        ("labels/oj.dev\1job-id", GONE, "another owner"),
        ("annotations/oj.dev\1spawn", "s0", "another order"),
        ("deletionTimestamp", "2026-11-23T16:40:15Z", "being deleted"),
    ],
)
def test_a_pod_of_the_same_name_that_is_not_ours_is_a_stranger(
    path: str, value: Any, says: str
) -> None:
    pod = made(PLAN)
    part, _, name = path.rpartition("/")
    held = pod["metadata"][part] if part else pod["metadata"]
    if value is GONE:
        del held[name.replace("\1", "/")]
    else:
        held[name.replace("\1", "/")] = value
    assert says in stranger(PLAN, pod)


def test_a_pod_without_labels_is_a_stranger() -> None:
    assert "another daemon" in stranger(PLAN, {"metadata": {"name": PLAN.name}})


# -- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "Job_1"}, "pod 'Job_1': not a name"),
        ({"name": "x" * 64}, "not a name"),
        ({"namespace": "a.b"}, "namespace 'a.b': not a name"),
        ({"instance": ""}, "not said whose it is"),
        ({"job_id": "a b"}, "job 'a b': not the value of a label"),
        ({"labels": {"oj.dev/job-id": "x"}}, "names under oj.dev/ are how oj knows its pods"),
        ({"annotations": {"oj.dev/spawn": "x"}}, "names under oj.dev/"),
        ({"labels": {"bad label": "x"}}, "label 'bad label': not the name of a label"),
        ({"labels": {"-": "x"}}, "not the name of a label"),
        ({"labels": {"a": "b c"}}, "label a 'b c': not the value of a label"),
        ({"labels": {"a": "x" * 64}}, "not the value of a label"),
        ({"image": "UPPER/case:no no"}, "not the name of an image"),
        ({"image": ""}, "not the name of an image"),
        ({"image": "-x"}, "not the name of an image"),
        ({"image": "a" * 600}, "not the name of an image"),
        ({"pull_policy": "Sometimes"}, "pull policy 'Sometimes'"),
        ({"pull_secrets": ("A",)}, "pull secret 'A'"),
        ({"env": {"A B": "x"}}, "env 'A B': not the name of a variable"),
        ({"env": {"A": "x\0"}}, "env A: it has a NUL"),
        ({"secret_env": {"A": KeyOf("S", "k")}}, "Secret 'S': not a name"),
        ({"secret_env": {"A": KeyOf("s", "k k")}}, "key 'k k'"),
        ({"credential_secret": "X"}, "OJ_K8S_CREDENTIAL_SECRET 'X'"),
        ({"ssh": Ssh(secret="X")}, "OJ_K8S_SSH_SECRET 'X'"),
        ({"git_login": GitLogin(secret="X", server="https://h")}, "OJ_K8S_GIT_SECRET 'X'"),
        ({"git_login": GitLogin(secret="x", server="")}, "OJ_K8S_GIT_URL is not set"),
        ({"git_login": GitLogin(secret="", server="https://h")}, "OJ_K8S_GIT_SECRET is not set"),
        ({"git_login": GitLogin(secret="x", server="https://h/a")}, "OJ_K8S_GIT_URL 'https://h/a': not the URL of a git server"),
        ({"git_login": GitLogin(secret="x", server="https://h:99999")}, "not the URL of a git server"),
        ({"git_login": GitLogin(secret="x", server="https://*.h")}, "not the URL of a git server"),
        ({"git_login": GitLogin(secret="x", server="https://me@h")}, "not the URL of a git server"),
        ({"git_login": GitLogin(secret="x", server="ssh://h")}, "not the URL of a git server"),
        ({"cpu": "two"}, "container agent: requests cpu 'two': not a quantity"),
        ({"cpu": "-1"}, "not a quantity"),
        ({"memory": "512m"}, "memory '512m': thousandths of a byte"),
        ({"requests": {"memory": "3Gi"}, "limits": {"memory": "2Gi"}}, "memory of 3Gi is requested, and the limit is 2Gi"),
        ({"requests": {"cpu": "1001m"}, "limits": {"cpu": "1"}}, "cpu of 1001m is requested, and the limit is 1"),
        ({"limits": {"a b": "1"}}, "resource 'a b'"),
        ({"limits": {"memroy": "1"}}, "resource 'memroy': there is no such resource"),
        ({"clone": Clone(url="https://ghp_s3cret0123456789abcdef@h/x.git")}, r"https://\*\*\*@h/x.git: the password"),
        ({"defaults": Defaults(cpu_limit="100m")}, "OJ_K8S_CPU_REQUEST is 250m, which is more than OJ_K8S_CPU_LIMIT, 100m"),
        ({"defaults": Defaults(memory_limit="lots")}, "OJ_K8S_MEMORY_LIMIT 'lots': not a quantity"),
        ({"defaults": Defaults(ephemeral_request="1m")}, "OJ_K8S_EPHEMERAL_REQUEST '1m': thousandths"),
        ({"user": 0}, "user 0: out of range"),
        ({"port": 80}, "port 80: out of range"),
        ({"grace_seconds": -1}, "grace period -1"),
        ({"probes": Probes(startup=Probe(0, 1))}, "period of a probe 0"),
        ({"probes": Probes(liveness=Probe(1, 0))}, "failures of a probe 0"),
        ({"workspace": Workspace(path="work")}, "workspace 'work': it cannot be there"),
        ({"workspace": Workspace(path="/")}, "it cannot be there"),
        ({"workspace": Workspace(path="/etc/oj/ssh")}, "it cannot be there"),
        ({"workspace": Workspace(path="/a/../etc")}, "it cannot be there"),
        ({"workspace": Workspace(path="/$(HOME)")}, "it cannot be there"),
        ({"workspace": Workspace(claim="A")}, "volume claim 'A'"),
        ({"workspace": Workspace(size="big")}, "workspace size 'big'"),
        ({"clone": Clone(url="--upload-pack=x")}, "it cannot be a URL"),
        ({"clone": Clone(url="ext::sh -c x")}, "it cannot be a URL"),
        ({"clone": Clone(url="ext::sh")}, "not a URL that a pod can reach"),
        ({"clone": Clone(url="/srv/app.git")}, "not a URL that a pod can reach"),
        ({"clone": Clone(url="ftp://h/x")}, "not a URL that a pod can reach"),
        ({"clone": Clone(url="ssh://-oProxyCommand=x/y")}, "not a URL that a pod can reach"),
        ({"clone": Clone(url="ssh://-oProxyCommand=x@h/y")}, "it cannot be a URL"),
        ({"clone": Clone(url="-oProxyCommand=x:y")}, "it cannot be a URL"),
        ({"clone": Clone(url="https://h/\nx")}, "it cannot be a URL"),
        ({"clone": Clone(url="https://[h/x")}, "it cannot be a URL"),
        ({"clone": Clone(url="https://me:s3cret@h/ x")}, "it cannot be a URL"),
        ({"clone": Clone(url="https://me:s3cret@h/x.git")}, r"https://\*\*\*@h/x.git: the password in this URL"),
        ({"clone": Clone(url="https://h/x", branch="-b")}, "'-b' cannot be a branch"),
        ({"clone": Clone(url="https://h/x", branch="a..b")}, "cannot be a branch"),
        ({"clone": Clone(url="https://h/x", branch="a b")}, "cannot be a branch"),
        ({"clone": Clone(url="https://h/x", ref="--force")}, "'--force' cannot be a ref"),
        ({"clone": Clone(url="https://h/x", depth=-1)}, "a depth of -1"),
        ({"clone": Clone(url="https://h/x", image="no no")}, "image of the clone"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_a_sentence(options: dict[str, Any], says: str) -> None:
    with pytest.raises(Rejected, match=says) as refused:
        build(planned(**options))
    assert refused.value.hint
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "image",
    [
        "busybox", "busybox:1", "localhost:5000/a/b_c/d__e/f-g:v1.2", "ghcr.io/org/img@sha256:" + "a" * 64,
        "registry.example.com:443/x:1@sha256:" + "0" * 64, "[::1]:5000/x", "UPPER.example/x",
    ],
)  # fmt: skip
def test_images_of_all_registries_are_taken(image: str) -> None:
    assert made(planned(image=image))["spec"]["containers"][0]["image"] == image


def test_variables_that_are_ours_are_reported_and_not_set() -> None:
    plan = planned(env={"OJ_SIDECAR_HOST": "10.0.0.1", "GIT_SSH_COMMAND": "evil", "OJ_SIDECAR_NEW": "x", "OK": "1"})  # fmt: skip
    built = build(plan)
    assert built.left_out == tuple(
        f"env {name}: left out, oj sets this variable itself"
        for name in ("OJ_SIDECAR_HOST", "GIT_SSH_COMMAND", "OJ_SIDECAR_NEW")
    )
    expected = changed(golden("default"), {f"{AGENT}/env/+4": [{"name": "OK", "value": "1"}]})
    assert built.pod == expected
