"""What a cluster does besides running pods: namespaces that end with all they hold, StatefulSets, Services and their names.

Rule: looks at everything whenever anything has changed, and does what is missing, as the real ones do. A Service has one
endpoint, its first pod that is ready; ports of Services are those of the containers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

from tests.support.kube.forward import Forward
from tests.support.kube.store import (
    CLAIMS,
    KINDS,
    NAMESPACES,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    Key,
    Object,
)

if TYPE_CHECKING:
    from tests.support.kube.kubelet import Kubelet

REVISION = "controller-revision-hash"


class Controllers:
    """Of one cluster; `start` them, and `close` them before the kubelet."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._store = kubelet.store
        self._news = asyncio.Event()
        self._ways: dict[str, tuple[str, list[Forward]]] = {}
        """Endpoint and forwards of each Service, by UID."""

    async def start(self) -> None:
        """Take care of everything from now on."""
        self._store.listeners.append(self._news.set)
        self._kubelet.hosts.write_text("127.0.0.1 localhost\n")
        self._kubelet.spawn(self._run())

    async def close(self) -> None:
        """Be reachable no more; the kubelet ends the rest."""
        self._store.listeners.remove(self._news.set)
        for _, forwards in self._ways.values():
            for each in forwards:
                each.close()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            self._end_namespaces()
            for each in self._all(STATEFUL_SETS):
                self._keep(each)
            await self._connect()

    def _all(self, resource: Any) -> list[Object]:
        found: list[Object] = self._store.list(Key(resource, ""), {})["items"]
        return found

    def _end_namespaces(self) -> None:
        there = {each["metadata"]["name"] for each in self._all(NAMESPACES)}
        for resource in KINDS:
            if resource == NAMESPACES:
                continue
            for each in self._all(resource):
                metadata = each["metadata"]
                if metadata["namespace"] not in there:
                    key = Key(resource, metadata["namespace"], metadata["name"])
                    if self._kubelet.get(key) is not None:  # else it went with its owner
                        self._store.delete(key, {"gracePeriodSeconds": 0})

    # -- StatefulSets

    def _keep(self, owner: Object) -> None:
        space, name, spec = owner["metadata"]["namespace"], owner["metadata"]["name"], owner["spec"]
        revision = hashlib.sha256(json.dumps(spec["template"]).encode()).hexdigest()[:10]
        ready = 0
        for number in range(spec.get("replicas", 1)):
            key = Key(PODS, space, f"{name}-{number}")
            pod = self._kubelet.get(key)
            if pod is None:
                self._make(owner, key, revision)
            elif pod["metadata"].get("deletionTimestamp"):
                continue
            elif (
                pod["status"]["phase"] in ("Failed", "Succeeded")
                or pod["metadata"]["labels"][REVISION] != revision
            ):
                self._store.delete(key)
            else:
                ready += is_ready(pod)

        def tell(found: Object) -> None:
            found["status"] = {
                "replicas": spec.get("replicas", 1),
                "readyReplicas": ready,
                "updateRevision": f"{name}-{revision}",
            }

        self._store.update(Key(STATEFUL_SETS, space, name), owner["metadata"]["uid"], tell)

    def _make(self, owner: Object, key: Key, revision: str) -> None:
        template = json.loads(json.dumps(owner["spec"]["template"]))
        for claim in owner["spec"].get("volumeClaimTemplates") or ():
            wanted = Key(CLAIMS, key.namespace, f"{claim['metadata']['name']}-{key.name}")
            if self._kubelet.get(wanted) is None:
                made = {"metadata": {"name": wanted.name}, "spec": claim["spec"]}
                self._store.create(wanted, made)
            volume = {"name": claim["metadata"]["name"]}
            volume["persistentVolumeClaim"] = {"claimName": wanted.name}
            template["spec"].setdefault("volumes", []).append(volume)
        metadata = template["metadata"]
        metadata["labels"] = {**metadata["labels"], REVISION: revision}
        who = {"apiVersion": "apps/v1", "kind": "StatefulSet", "controller": True}
        who |= {each: owner["metadata"][each] for each in ("name", "uid")}
        metadata |= {"name": key.name, "ownerReferences": [who]}
        self._store.create(key, {"metadata": metadata, "spec": template["spec"]})

    # -- Services

    async def _connect(self) -> None:
        names = []
        alive = set()
        for each in self._all(SERVICES):
            metadata, spec = each["metadata"], each["spec"]
            alive.add(metadata["uid"])
            address = spec.get("clusterIP") or self._give_address(each)
            space, name = metadata["namespace"], metadata["name"]
            full = f"{name}.{space}.svc"
            names.append(f"{address} {full} {full}.cluster.local {name}.{space}")
            await self._lead(each, address)
        for uid in set(self._ways) - alive:
            for forward in self._ways.pop(uid)[1]:
                forward.close()
        text = "\n".join(("127.0.0.1 localhost", *names, ""))
        if self._kubelet.hosts.read_text() != text:
            self._kubelet.hosts.write_text(text)  # in its place: containers see this very file

    def _give_address(self, service: Object) -> str:
        given = self._kubelet.address()
        metadata = service["metadata"]

        def change(found: Object) -> None:
            found["spec"]["clusterIP"] = given

        key = Key(SERVICES, metadata["namespace"], metadata["name"])
        self._store.update(key, metadata["uid"], change)
        return given

    async def _lead(self, service: Object, address: str) -> None:
        """Let connections to the Service reach its pod."""
        uid, labels = service["metadata"]["uid"], service["spec"].get("selector") or {}
        wanted = ",".join(f"{name}={value}" for name, value in labels.items())
        pods = self._store.list(
            Key(PODS, service["metadata"]["namespace"]), {"labelSelector": wanted}
        )["items"]
        ends = [pod["status"]["podIP"] for pod in pods if is_ready(pod)] if labels else []
        end = ends[0] if ends else ""
        before, forwards = self._ways.get(uid, ("", []))
        if end == before:
            return
        for each in forwards:
            each.close()
        fresh = [Forward(port["port"], end) for port in service["spec"]["ports"]] if end else []
        for each in fresh:
            await each.listen(address)
        self._ways[uid] = (end, fresh)


def is_ready(pod: Object) -> bool:
    """Whether traffic may go to it."""
    conditions = pod["status"].get("conditions") or ()
    return not pod["metadata"].get("deletionTimestamp") and any(
        each["type"] == "Ready" and each["status"] == "True" for each in conditions
    )
