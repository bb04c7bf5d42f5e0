"""The manifest before a real API server: `OJ_TEST_KUBECONFIG` names a cluster; nothing but a namespace is made in it, and removed.

Rule: a server-side dry run goes through everything that a real creation does (defaults, validation, admission, Pod Security).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config, utils

from oj_daemon.manifest.objects import objects
from oj_daemon.manifest.options import Options
from oj_daemon.settings import Secret
from tests.support.waiting import until

KUBECONFIG = os.environ.get("OJ_TEST_KUBECONFIG", "")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not KUBECONFIG, reason="OJ_TEST_KUBECONFIG does not name a cluster"),
]


@pytest.fixture(scope="module")
def api() -> Any:
    configuration = client.Configuration()
    config.load_kube_config(KUBECONFIG, client_configuration=configuration)  # type: ignore[no-untyped-call]  # theirs
    return client.ApiClient(configuration)


@pytest.fixture(scope="module")
def namespace(api: Any) -> Iterator[str]:
    """A namespace that takes restricted pods only, and warns of nothing."""
    name = f"oj-test-{secrets.token_hex(4)}"
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    core: Any = client.CoreV1Api(api)  # its types want models where it takes dictionaries too
    core.create_namespace({"metadata": {"name": name, "labels": level}})
    try:
        # No pod is taken before the cluster has made this one.
        accounts = core.list_namespaced_service_account
        until(lambda: accounts(name).items, 60, "a default service account", pause=0.5)
        yield name
    finally:
        core.delete_namespace(name)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"replicas": 2, "service_type": "NodePort", "tls_secret": "cert", "webhook_secret": "chat"},
        {"runtime": "local", "token": Secret(""), "token_secret": "mine"},
        {"create_namespace": True, "agent_pod_template": "spec: {}", "egress_ports": (16443,)},
    ],
    ids=["default", "standbys", "local", "agents"],
)
def test_the_api_server_takes_every_object_in_a_dry_run(
    api: Any, namespace: str, chosen: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"image": "oj", "namespace": namespace, "token": Secret("t" * 32)}
    for each in objects(Options(**(options | chosen))):
        if each["kind"] == "Namespace":  # it is there already, so another one is tried
            each["metadata"]["name"] += "-more"
        utils.create_from_dict(api, each, dry_run="All", field_validation="Strict")  # type: ignore[no-untyped-call]  # theirs


def test_the_pod_alone_is_taken_by_a_restricted_namespace(api: Any, namespace: str) -> None:
    # A StatefulSet is taken with any pod; only the pod itself is checked against the profile.
    made = objects(Options(image="oj", namespace=namespace, token=Secret("t" * 32)))
    (template,) = [each["spec"]["template"] for each in made if each["kind"] == "StatefulSet"]
    del template["spec"]["serviceAccountName"]  # the dry run has not made it
    template["spec"]["volumes"].append({"name": "state", "emptyDir": {}})
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] |= {"name": "oj-daemon-0", "namespace": namespace}
    core: Any = client.CoreV1Api(api)
    core.create_namespaced_pod(namespace, pod, dry_run="All", field_validation="Strict")
    pod["spec"]["securityContext"]["runAsNonRoot"] = False
    with pytest.raises(client.ApiException, match="violates PodSecurity"):
        core.create_namespaced_pod(namespace, pod, dry_run="All")
