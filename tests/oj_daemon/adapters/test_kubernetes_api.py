"""The thin client of the Kubernetes API, against the test API server, whose answers are compared with recorded ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from oj_daemon import settings
from oj_daemon.adapters.kubernetes import api
from oj_daemon.adapters.kubernetes.api import Kube, KubeError
from tests.support.kube.server import Fault, Server

LEASES = "/apis/coordination.k8s.io/v1/namespaces/rec/leases"
PODS = "/api/v1/namespaces/rec/pods"
PATIENCE = 30.0


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[Server]:
    server = Server("rec")
    await server.start()
    try:
        async with asyncio.timeout(PATIENCE):
            yield server
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def connected(
    folder: Path, note: api.NoteApiCall | None = None
) -> AsyncIterator[tuple[Server, Kube]]:
    async with served() as server:
        path = server.kubeconfig(folder / "kubeconfig", "rec")
        found = settings.load({"OJ_STATE_DIR": str(folder), "OJ_K8S_KUBECONFIG": str(path)})
        kube = await api.connect(found, note_api_call=note)
        try:
            yield server, kube
        finally:
            await kube.close()


def lease(**metadata: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "oj-daemon", **metadata},
        "spec": {
            "holderIdentity": "a",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-11-23T16:00:00.000000Z",
            "renewTime": "2026-11-23T16:00:00.000000Z",
            "leaseTransitions": 1,
        },
    }


async def refusal(work: Any) -> KubeError:
    with pytest.raises(KubeError) as failure:
        await work
    return failure.value


async def test_a_created_object_comes_back_as_the_real_server_gives_it(folder: Path) -> None:
    recorded = json.loads(
        """{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"creationTimestamp": "", "name": "oj-daemon",
        "namespace": "rec", "resourceVersion": "", "uid": ""}, "spec": {"acquireTime": "2026-11-23T16:00:00.000000Z",
        "holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 1,
        "renewTime": "2026-11-23T16:00:00.000000Z"}}"""
    )
    async with connected(folder) as (_, kube):
        assert kube.namespace == "rec"
        made = await kube.request("POST", LEASES, lease())
        for name in ("creationTimestamp", "resourceVersion", "uid"):
            recorded["metadata"][name] = made["metadata"][name]
        assert made == recorded
        assert await kube.request("GET", f"{LEASES}/oj-daemon") == made
        listed = await kube.request("GET", LEASES)
        assert (listed["kind"], listed["items"]) == ("LeaseList", [made])


async def test_a_version_that_is_not_the_newest_is_a_conflict(folder: Path) -> None:
    async with connected(folder) as (_, kube):
        made = await kube.request("POST", LEASES, lease())
        version = made["metadata"]["resourceVersion"]
        changed = await kube.request(
            "PATCH", f"{LEASES}/oj-daemon", {"spec": {"holderIdentity": "b"}}
        )
        assert changed["spec"] == {**made["spec"], "holderIdentity": "b"}
        error = await refusal(
            kube.request("PUT", f"{LEASES}/oj-daemon", lease(resourceVersion=version))
        )
    assert (error.status, error.reason, error.code) == (409, "Conflict", "409")
    assert error.message == (
        f"PUT {LEASES}/oj-daemon: the API server answered 409 Conflict: Operation cannot be fulfilled on "
        'leases.coordination.k8s.io "oj-daemon": the object has been modified; please apply your changes to the latest '
        "version and try again"
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason", "message"),
    [
        ("GET", f"{PODS}/absent", None, 404, "NotFound", 'pods "absent" not found'),
        (
            "POST",
            "/api/v1/namespaces/absent/pods",
            {"metadata": {"name": "a"}},
            404,
            "NotFound",
            'namespaces "absent" not found',
        ),
        (
            "POST",
            PODS,
            {"metadata": {"name": "exit0"}},
            409,
            "AlreadyExists",
            'pods "exit0" already exists',
        ),
        (
            "POST",
            PODS,
            {"metadata": {"name": "Bad_Name"}},
            422,
            "Invalid",
            'Pod "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123',
        ),
        (
            "POST",
            PODS,
            {"metadata": {"name": "a", "resourceVersion": "7"}},
            500,
            "Internal Server Error",
            "resourceVersion should not be set on objects to be created",
        ),
        (
            "PUT",
            f"{PODS}/exit0",
            {"metadata": {"name": "exit0", "resourceVersion": "7"}},
            409,
            "Conflict",
            'Operation cannot be fulfilled on pods "exit0": the object has been modified',
        ),
    ],
)
async def test_refusals_say_what_the_server_says(
    folder: Path,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: int,
    reason: str,
    message: str,
) -> None:
    async with connected(folder) as (_, kube):
        await kube.request("POST", PODS, {"metadata": {"name": "exit0"}})
        error = await refusal(kube.request(method, path, body))
    assert (error.status, error.reason) == (status, reason)
    assert message in error.message


async def test_an_object_of_half_a_megabyte_is_watched_like_any_other(folder: Path) -> None:
    async with connected(folder) as (_, kube):
        notes = {f"n{number}": "x" * 100_000 for number in range(5)}
        await kube.request("POST", PODS, {"metadata": {"name": "a", "annotations": notes}})
        query = {"resourceVersion": "100", "timeoutSeconds": "1"}
        (event,) = [event async for event in kube.watch(PODS, query)]
        assert event["object"]["metadata"]["annotations"] == notes


async def test_delete_and_watch_show_what_happens_to_an_object(folder: Path) -> None:
    async with connected(folder) as (server, kube):
        first = await kube.request("POST", PODS, {"metadata": {"name": "a", "labels": {"x": "1"}}})
        await kube.request("POST", PODS, {"metadata": {"name": "b"}})
        gone = await kube.request("DELETE", f"{PODS}/a")
        assert (gone["kind"], gone["metadata"]["name"]) == ("Pod", "a")
        query = {
            "resourceVersion": "101",
            "labelSelector": "x=1",
            "timeoutSeconds": "1",
            "allowWatchBookmarks": "true",
        }
        events = [event async for event in kube.watch(PODS, query)]
        assert [event["type"] for event in events] == ["ADDED", "DELETED", "BOOKMARK"]
        assert events[0]["object"] == first
        server.store.expire()
        (error,) = [event async for event in kube.watch(PODS, query)]
    assert (error["type"], error["object"]["code"], error["object"]["reason"]) == (
        "ERROR",
        410,
        "Expired",
    )


async def test_a_server_that_is_away_or_slow_is_one_kind_of_error(folder: Path) -> None:
    async with connected(folder) as (server, kube):
        server.faults.append(Fault("delay", seconds=PATIENCE, times=1))
        slow = await refusal(kube.request("GET", LEASES, seconds=0.2))
        assert (slow.status, slow.reason, slow.code) == (0, "Unreachable", "unreachable")
        assert (
            slow.message
            == f"GET {LEASES}: the API server at {server.url} cannot be asked: no answer in time"
        )
        server.faults[:] = [Fault("down")]
        assert (await refusal(kube.request("POST", LEASES, lease()))).reason == "Unreachable"
        server.faults[:] = [Fault("mute", times=1)]
        assert (await refusal(kube.request("POST", LEASES, lease()))).status == 0
        assert (await kube.request("GET", f"{LEASES}/oj-daemon"))["spec"] == lease()["spec"], (
            "it happened"
        )
        await server.close()
        assert (await refusal(kube.request("GET", LEASES))).reason == "Unreachable"


async def test_a_wish_to_be_left_alone_for_a_while_is_passed_on(folder: Path) -> None:
    async with connected(folder) as (server, kube):
        server.faults.append(Fault("status", status=429, headers={"Retry-After": "7"}))
        error = await refusal(kube.request("GET", LEASES))
    assert (error.status, error.retry_after) == (429, 7.0)
    assert len(server.requests) == 1, "nothing is tried again behind our back"


async def test_each_call_is_noted_once_with_its_outcome(folder: Path) -> None:
    noted: list[tuple[str, int]] = []
    async with connected(folder, lambda verb, code, _: noted.append((verb, code))) as (
        server,
        kube,
    ):
        await kube.request("POST", LEASES, lease())
        await refusal(kube.request("POST", LEASES, lease()))
        assert [event["type"] async for event in kube.watch(LEASES, {"timeoutSeconds": "0.1"})] == [
            "ADDED"
        ]
        server.faults.append(Fault("down"))
        await refusal(kube.request("PUT", f"{LEASES}/oj-daemon", lease()))
    assert noted == [("create", 201), ("create", 409), ("watch", 200), ("update", 0)]


async def test_a_token_that_was_replaced_is_read_again(folder: Path) -> None:
    async with connected(folder) as (server, kube):
        await kube.request("GET", LEASES)
        server.token = "another"
        assert (await refusal(kube.request("GET", LEASES))).status == 401
        server.kubeconfig(folder / "kubeconfig", "rec")
        assert (await kube.request("GET", LEASES))["items"] == []


async def test_in_a_pod_the_token_of_the_service_account_is_used_and_may_rotate(
    folder: Path,
) -> None:
    mounted = folder / "var/run/secrets/kubernetes.io/serviceaccount"
    mounted.mkdir(parents=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(mounted / "ca.crt")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    (mounted / "token").write_text("test-token")
    (mounted / "namespace").write_text("rec")
    server = Server("rec")
    await server.start(tls=tls)
    try:
        environ = {
            "OJ_STATE_DIR": str(folder),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": server.url.rpartition(":")[2],
        }
        kube = await api.connect(settings.load(environ, folder), root=folder)
        assert kube.namespace == "rec"
        await kube.request("POST", LEASES, lease())
        server.token = "rotated"
        (mounted / "token").write_text("rotated\n")
        assert (await kube.request("GET", f"{LEASES}/oj-daemon"))["spec"] == lease()["spec"]
        assert len(server.requests) == 2, "the new token was used at once"
        (mounted / "token").unlink()
        assert (await refusal(kube.request("GET", LEASES))).reason == "Credentials"
        await kube.close()
    finally:
        await server.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        ("{]", "while parsing"),
        ("{}", "Invalid kube-config file"),
    ],
)
async def test_a_kubeconfig_without_credentials_is_named(
    folder: Path, content: str | None, message: str
) -> None:
    path = folder / "kubeconfig"
    if content is not None:
        path.write_text(content)
    found = settings.load({"OJ_STATE_DIR": str(folder), "OJ_K8S_KUBECONFIG": str(path)})
    error = await refusal(api.connect(found))
    assert error.reason == "Credentials"
    assert error.message.startswith(f"load credentials for the cluster from {path}: ")
    assert message in error.message


async def test_outside_of_a_pod_a_kubeconfig_has_to_be_named(folder: Path) -> None:
    error = await refusal(api.connect(settings.load({"OJ_STATE_DIR": str(folder)})))
    assert (error.reason, error.hint) == (
        "Credentials",
        "set OJ_K8S_KUBECONFIG to a file with credentials",
    )
