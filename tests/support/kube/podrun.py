"""One pod on the test node, from its node to its end.

Rule: one task at a time writes its status: its life, and once that is cancelled its end.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import shutil
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oj_daemon.adapters.kubernetes import grammar
from tests.support.kube.access import Account
from tests.support.kube.container import Container, expand
from tests.support.kube.forward import Forward
from tests.support.kube.shapes import NO_NODE, NODE, Status
from tests.support.kube.store import CONFIG_MAPS, PODS, Key, Object, Refused, stamp

if TYPE_CHECKING:
    from tests.support.kube.kubelet import Kubelet

FAILED_SECONDS = 0.5
"""How long a pod whose container has ended is still Running."""
BACK_OFF_SECONDS = 0.5
"""From ErrImagePull to ImagePullBackOff."""
EAGER_SECONDS = 0.2
"""How often a container that starts is asked whether it is there; after how many failures it is given up follows the probe."""
KILLED = 137
ACCOUNT = "kubernetes.io/serviceaccount"
MEMORY_SECONDS = 0.5
"""How often is looked whether a container has more than it may have."""
CORES = Decimal(64)
"""Of the node."""


class PodRun:
    """One pod."""

    def __init__(self, kubelet: Kubelet, pod: Object) -> None:
        metadata = pod["metadata"]
        self.key = Key(PODS, metadata["namespace"], metadata["name"])
        self.uid = metadata["uid"]
        self._kubelet = kubelet
        self._pod = pod
        self._spec = pod["spec"]
        self._folder = kubelet.folder / self.uid
        self._status = Status(pod)
        self._containers: dict[str, Container] = {}
        self._causes: dict[str, str] = {}
        """Why containers were killed, where that is not `Error`."""
        self._life: asyncio.Task[object] | None = None
        self._end: asyncio.Task[object] | None = None
        self._is_lost = False
        self._inner = ""
        """Where its containers listen."""
        self._forwards: list[Forward] = []

    def begin(self) -> None:
        """Let it live."""
        self._life = self._kubelet.spawn(self._live())

    def notice(self, pod: Object) -> None:
        """The API has a newer version of it."""
        self._pod = pod
        if pod["metadata"].get("deletionTimestamp") and not self._is_lost and self._end is None:
            grace = pod["metadata"]["deletionGracePeriodSeconds"]
            if self._life is not None:
                self._life.cancel()
            self._end = self._kubelet.spawn(self._delete(grace))

    async def vanish(self) -> None:
        """It is not there any more: whatever runs of it ends at once."""
        tasks = [task for task in (self._life, self._end) if task is not None]
        for task in tasks:
            task.cancel()
        for forward in self._forwards:
            forward.close()
        for container in self._containers.values():
            container.kill()
        running = [each.wait() for each in self._containers.values() if each.is_running]
        await asyncio.gather(*running, *tasks, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def pids(self) -> list[int]:
        """Numbers of all its processes."""
        return [pid for each in self._containers.values() for pid in each.pids()]

    def read_log(self, query: Mapping[str, str]) -> str:
        """What a container said."""
        name = query.get("container") or self._spec["containers"][0]["name"]
        if name not in self._status.states:
            message = f"container {name} is not valid for pod {self.key.name}"
            raise Refused(400, "BadRequest", message)
        waiting = self._status.states[name].get("waiting")
        if waiting or name not in self._containers:
            reason = (waiting or {}).get("reason", "ContainerCreating")
            message = f'container "{name}" in pod "{self.key.name}" is waiting to start: {reason}'
            raise Refused(400, "BadRequest", message)
        lines = self._containers[name].log.read_text(errors="replace").splitlines(keepends=True)
        if "tailLines" in query:
            lines = lines[len(lines) - min(int(query["tailLines"]), len(lines)) :]
        text = "".join(lines)
        return text[: int(query["limitBytes"])] if "limitBytes" in query else text

    # -- life -------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        await self._schedule()
        self._status.begin()
        self._publish()
        volumes = await self._make_volumes()
        await self._wait_for_leave()
        await self._make_sandbox()
        for spec in self._status.inits:
            if not await self._run_init(spec, volumes):
                return
        for spec in self._status.containers:
            await self._start(spec, volumes)
            self._status.phase = "Running"
        self._status.judge()
        self._publish()
        async with asyncio.TaskGroup() as group:
            for spec in self._status.containers:
                group.create_task(self._watch_over(spec))
        await self._finish()

    async def _schedule(self) -> None:
        said = ""
        while True:
            spec = self._pod["spec"]
            rule = self._kubelet.rules.find("unschedulable", self.key.name)
            if spec.get("schedulingGates"):
                pass  # as the server has made it
            elif rule is None and self._cores() <= CORES:
                break
            elif said != (text := (rule.message if rule else "") or NO_NODE):
                said = text
                self._status.condition("PodScheduled", "False", "Unschedulable", said)
                self._publish()
                self._note("Warning", "FailedScheduling", said, component="default-scheduler")
            await self._kubelet.rules.wait()
        self._status.condition("PodScheduled", "True")

        def bind(pod: Object) -> None:
            pod["spec"]["nodeName"] = NODE

        self._kubelet.store.update(self.key, self.uid, bind)
        self._publish()
        text = f"Successfully assigned {self.key.namespace}/{self.key.name} to {NODE}"
        self._note("Normal", "Scheduled", text, component="default-scheduler")

    def _cores(self) -> Decimal:
        asked = [
            ((each.get("resources") or {}).get("requests") or {}).get("cpu", "0")
            for each in self._spec["containers"]
        ]
        return sum((grammar.quantity("cpu", each) for each in asked), Decimal(0))

    async def _wait_for_leave(self) -> None:
        rules = self._kubelet.rules
        if (slow := rules.find("slow", self.key.name)) is not None:
            await asyncio.sleep(slow.seconds)
        while rules.find("hold", self.key.name) is not None:
            await rules.wait()

    async def _make_sandbox(self) -> None:
        kubelet = self._kubelet
        self._inner = kubelet.address_of(self.key, self._spec)
        address = self._inner
        if not kubelet.is_direct:
            address = kubelet.address()
            ports = {
                port["containerPort"]
                for each in self._status.containers
                for port in each.get("ports") or ()
            }
            self._forwards = [Forward(port, self._inner) for port in sorted(ports)]
            for forward in self._forwards:
                await forward.listen(address)
        self._status.address(address)
        self._publish()

    async def _run_init(self, spec: Object, volumes: Mapping[str, Path]) -> bool:
        """Whether the next one may start."""
        name = spec["name"]
        await self._start(spec, volumes)
        if spec.get("restartPolicy") == "Always":
            self._status.started.add(name)
            return True
        self._publish()
        code = await self._containers[name].wait()
        self._ended(name, code)
        if code == 0:
            self._status.judge()
            self._publish()
            return True
        self._status.condition("PodReadyToStartContainers", "False")
        self._status.phase = "Failed"
        self._status.judge()
        self._publish()
        self._close_forwards()
        return False

    async def _start(self, spec: Object, volumes: Mapping[str, Path]) -> None:
        name = spec["name"]
        await self._pull(spec)
        env = await self._environment(spec)
        command = [expand(each, env) for each in spec.get("command") or ()]
        args = [expand(each, env) for each in spec.get("args") or ()]
        argv = [*(command or self._kubelet.program_of(spec["image"])), *args]
        if self._kubelet.rules.find("broken", spec["image"]) is not None:
            argv = ["/nosuch"]
        container = self._containers[name] = Container(self._folder, name)
        await container.start(
            argv,
            env,
            spec.get("workingDir") or "/",
            self._mounts(spec, volumes),
            {"/etc/hosts": str(self._kubelet.hosts)} if self._kubelet.hosts.exists() else {},
        )
        number = hashlib.sha256(f"{self.uid}/{name}".encode()).hexdigest()
        running = {"startedAt": stamp(), "containerID": f"containerd://{number}"}
        self._status.states[name] = {"running": running}
        self._note("Normal", "Started", "Container started", container=name)

    async def _pull(self, spec: Object) -> None:
        """Wait until the image can be had."""
        name, image = spec["name"], spec["image"]
        failures = 0
        while (rule := self._kubelet.rules.find("image", image)) is not None:
            why = rule.message or (
                f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found'
            )
            reason, text = "ErrImagePull", why
            if failures % 2:
                reason = "ImagePullBackOff"
                text = f'Back-off pulling image "{image}": ErrImagePull: {why}'
                self._note("Normal", "BackOff", f'Back-off pulling image "{image}"', container=name)
            else:
                self._note("Normal", "Pulling", f'Pulling image "{image}"', container=name)
                self._note("Warning", "Failed", f'Failed to pull image "{image}": {why}', container=name)  # fmt: skip
            self._note("Warning", "Failed", f"Error: {reason}", container=name)
            self._wait_for(name, reason, text)
            failures += 1
            with contextlib.suppress(TimeoutError):
                # Then it backs off for longer and longer.
                async with asyncio.timeout(BACK_OFF_SECONDS if failures % 2 else 20):
                    while self._kubelet.rules.find("image", image) is not None:
                        await self._kubelet.rules.wait()
        text = (
            f'Container image "{image}" already present on machine and can be accessed by the pod'
        )
        self._note("Normal", "Pulled", text, container=name)

    async def _environment(self, spec: Object) -> dict[str, str]:
        """The variables of a container, as soon as the Secrets that they come from are there."""
        said = ""
        while True:
            try:
                env = self._values(spec)
            except LookupError as error:
                text = str(error.args[0])
                if text != said:
                    said = text
                    self._note("Warning", "Failed", f"Error: {text}", container=spec["name"])
                self._wait_for(spec["name"], "CreateContainerConfigError", text)
                await self._kubelet.rules.wait()
                continue
            if "OJ_SIDECAR_HOST" in env:
                env["OJ_SIDECAR_HOST"] = self._inner
            if spec["image"] == self._kubelet.daemon_image:
                env |= {"OJ_TCP_BIND": self._inner, "OJ_HTTP_BIND": self._inner}
            return env

    def _values(self, spec: Object) -> dict[str, str]:
        env = {**self._kubelet.env, "HOSTNAME": self.key.name}
        given: dict[str, str] = {}
        for each in spec.get("env") or ():
            source = each.get("valueFrom")
            if source is None:
                given[each["name"]] = expand(each.get("value") or "", given)
                continue
            if "fieldRef" in source:
                given[each["name"]] = self._own(source["fieldRef"]["fieldPath"])
                continue
            value = self._secret_value(source["secretKeyRef"])
            if value is not None:
                given[each["name"]] = value
        return {**env, **self._way_to_api(), **given}

    def _own(self, path: str) -> str:
        """The downward API, as far as somebody needs it."""
        return {"metadata.name": self.key.name, "status.podIP": self._inner}[path]

    def _way_to_api(self) -> dict[str, str]:
        port = self._kubelet.server.port_for_pods
        if not port:
            return {}
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}

    def _secret_value(self, wanted: Object) -> str | None:
        secret = self._kubelet.secret(self.key.namespace, wanted["name"])
        is_optional = wanted.get("optional", False)
        if secret is None:
            if is_optional:
                return None
            raise LookupError(f'secret "{wanted["name"]}" not found')
        text = (secret.get("data") or {}).get(wanted["key"])
        if text is None:
            if is_optional:
                return None
            where = f"{self.key.namespace}/{wanted['name']}"
            raise LookupError(f"couldn't find key {wanted['key']} in Secret {where}")
        return base64.b64decode(text).decode()

    async def _make_volumes(self) -> dict[str, Path]:
        """Folders for the volumes, as soon as all Secrets are there."""
        self._folder.mkdir()
        made: dict[str, Path] = {}
        for volume in self._spec.get("volumes") or ():
            folder = self._folder / "volumes" / volume["name"]
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim:
                folder = self._kubelet.claims / f"{self.key.namespace}.{claim}"
            folder.mkdir(parents=True, exist_ok=True)
            if "secret" in volume:
                await self._fill(volume["name"], volume["secret"], folder)
            if "configMap" in volume:
                self._copy(volume["configMap"], folder)
            made[volume["name"]] = folder
        if self._kubelet.server.port_for_pods and self._spec.get(
            "automountServiceAccountToken", True
        ):
            made[ACCOUNT] = self._account(self._folder / "volumes" / ACCOUNT)
        return made

    def _account(self, folder: Path) -> Path:
        """Credentials of the pod's service account."""
        server = self._kubelet.server
        folder.mkdir(parents=True)
        who = Account(self.key.namespace, self._spec.get("serviceAccountName", "default"))
        (folder / "token").write_text(who.token(server.token))
        (folder / "namespace").write_text(self.key.namespace)
        shutil.copy(server.ca, folder / "ca.crt")
        return folder

    def _copy(self, wanted: Object, folder: Path) -> None:
        found = self._kubelet.store.get(Key(CONFIG_MAPS, self.key.namespace, wanted["name"]))
        for name, text in found["data"].items():
            (folder / name).write_text(text)
            (folder / name).chmod(wanted.get("defaultMode") or 0o644)

    async def _fill(self, volume: str, wanted: Object, folder: Path) -> None:
        name, said = wanted["secretName"], ""
        while True:
            secret = self._kubelet.secret(self.key.namespace, name)
            data = (secret or {}).get("data") or {}
            items = wanted.get("items") or [{"key": key, "path": key} for key in data]
            missing = [each["key"] for each in items if each["key"] not in data]
            if wanted.get("optional"):
                items = [each for each in items if each["key"] in data]
                break
            if secret is not None and not missing:
                break
            text = f'MountVolume.SetUp failed for volume "{volume}" : '
            absent = f'secret "{name}" not found'
            text += (
                absent if secret is None else f"references non-existent secret key: {missing[0]}"
            )
            if text != said:
                said = text
                self._note("Warning", "FailedMount", text)
            await self._kubelet.rules.wait()
        for each in items:
            path = folder / each["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(data[each["key"]]))
            path.chmod(each.get("mode") or wanted.get("defaultMode") or 0o644)

    def _mounts(self, spec: Object, volumes: Mapping[str, Path]) -> list[tuple[str, str, bool]]:
        made = []
        for each in spec.get("volumeMounts") or ():
            source = volumes[each["name"]] / each.get("subPath", "")
            source.mkdir(parents=True, exist_ok=True)
            made.append((str(source), each["mountPath"].rstrip("/"), each.get("readOnly", False)))
        if ACCOUNT in volumes:
            made.append((str(volumes[ACCOUNT]), f"/var/run/secrets/{ACCOUNT}", True))
        hidden = [Path(target) for _, target, _ in made]
        seen = [
            path for path in self._kubelet.shared if any(each in path.parents for each in hidden)
        ]
        made += [(str(path), str(path), False) for path in seen]
        return made

    # -- while it runs ----------------------------------------------------------------------------------------------

    async def _watch_over(self, spec: Object) -> None:
        """Ask a container how it is until it has ended."""
        name = spec["name"]
        probing = asyncio.gather(self._probe(spec), self._limit_memory(spec))
        try:
            code = await self._containers[name].wait()
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
        self._ended(name, code)
        self._status.judge()
        self._publish()

    async def _limit_memory(self, spec: Object) -> None:
        """Kill a container that has more than it may have."""
        limit = ((spec.get("resources") or {}).get("limits") or {}).get("memory")
        while limit is not None:
            await asyncio.sleep(MEMORY_SECONDS)
            if self._containers[spec["name"]].memory() > grammar.quantity("memory", limit):
                await self.oom(spec["name"])
                return

    async def _probe(self, spec: Object) -> None:
        name = spec["name"]
        if (startup := spec.get("startupProbe")) is not None:
            until = time.monotonic() + startup.get("periodSeconds", 10) * startup.get(
                "failureThreshold", 3
            )
            while why := await self._ask(spec, startup):
                if time.monotonic() > until:
                    await self._give_up(name, "startup", why)
                    return
                await asyncio.sleep(EAGER_SECONDS)
        self._status.started.add(name)
        self._publish()
        if spec.get("readinessProbe") is None:
            self._be_ready(name, is_ready=True)
        await asyncio.gather(self._probe_readiness(spec), self._probe_liveness(spec))

    async def _probe_readiness(self, spec: Object) -> None:
        if (probe := spec.get("readinessProbe")) is None:
            return
        name, failures, is_ready = spec["name"], 0, False
        while True:
            why = await self._ask(spec, probe)
            failures = failures + 1 if why else 0
            if why:
                self._note("Warning", "Unhealthy", f"Readiness probe failed: {why}", container=name)
            if (not why and not is_ready) or (
                is_ready and failures >= probe.get("failureThreshold", 3)
            ):
                is_ready = not why
                self._be_ready(name, is_ready=is_ready)
            period = probe.get("periodSeconds", 10)
            await asyncio.sleep(period if is_ready else min(period, EAGER_SECONDS))

    async def _probe_liveness(self, spec: Object) -> None:
        if (probe := spec.get("livenessProbe")) is None:
            return
        failures = 0
        while True:
            why = await self._ask(spec, probe)
            failures = failures + 1 if why else 0
            if why:
                self._note("Warning", "Unhealthy", f"Liveness probe failed: {why}", container=spec["name"])  # fmt: skip
            if failures >= probe.get("failureThreshold", 3):
                await self._give_up(spec["name"], "liveness", why)
                return
            await asyncio.sleep(probe.get("periodSeconds", 10))

    async def _give_up(self, name: str, probe: str, why: str) -> None:
        self._note("Warning", "Unhealthy", f"{probe.title()} probe failed: {why}", container=name)
        text = f"Container {name} failed {probe} probe, will be restarted"
        self._note("Normal", "Killing", text, container=name)
        # Not awaited to the end here: the end of the container ends the probes.
        self._kubelet.spawn(self._containers[name].end(self._spec["terminationGracePeriodSeconds"]))

    async def _ask(self, spec: Object, probe: Object) -> str:
        """Why a probe failed; empty: it did not."""
        import aiohttp  # noqa: PLC0415 - see kubelet.py

        if "tcpSocket" in probe:
            return await self._try(probe["tcpSocket"]["port"])
        get = probe["httpGet"]
        port = get["port"]
        if isinstance(port, str):
            port = next(each["containerPort"] for each in spec["ports"] if each.get("name") == port)
        url = f"{get.get('scheme', 'HTTP').lower()}://{self._inner}:{port}{get.get('path', '/')}"
        limit = aiohttp.ClientTimeout(total=probe.get("timeoutSeconds", 1))
        try:
            async with self._kubelet.http.get(url, timeout=limit, allow_redirects=False) as reply:
                is_good = 200 <= reply.status < 400
                return "" if is_good else f"HTTP probe failed with statuscode: {reply.status}"
        except TimeoutError:
            return f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'  # fmt: skip
        except (OSError, aiohttp.ClientError) as error:
            return f'Get "{url}": {error}'

    async def _try(self, port: int) -> str:
        try:
            _, writer = await asyncio.open_connection(self._inner, port)
        except OSError as error:
            return f"dial tcp {self._inner}:{port}: {error}"
        writer.close()
        return ""

    def _be_ready(self, name: str, *, is_ready: bool) -> None:
        if is_ready:
            self._status.ready.add(name)
        else:
            self._status.ready.discard(name)
        self._status.judge()
        self._publish()

    # -- its end ----------------------------------------------------------------------------------------------------

    def _ended(self, name: str, code: int) -> None:
        running = self._status.states[name]["running"]
        trouble = self._containers[name].trouble
        reason = "Completed" if code == 0 else "Error"
        text = ""
        if trouble:
            code, reason = 128, "StartError"
            text = (
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
                f"unable to start container process: {trouble}: unknown"
            )
            self._note("Warning", "Failed", f"Error: {text}", container=name)
        self._status.states[name] = {
            "terminated": {
                "containerID": running["containerID"],
                "exitCode": code,
                "finishedAt": stamp(),
                **({"message": text} if text else {}),
                "reason": self._causes.get(name, reason),
                "startedAt": "1970-01-01T00:00:00Z" if trouble else running["startedAt"],
            }
        }
        self._status.ready.discard(name)
        self._status.started.discard(name)

    async def _finish(self) -> None:
        """All containers have ended by themselves."""
        for each in self._status.inits:
            if (stays := self._containers[each["name"]]).is_running:
                self._ended(
                    each["name"], await stays.end(self._spec["terminationGracePeriodSeconds"])
                )
        await asyncio.sleep(FAILED_SECONDS)
        self._close_forwards()
        self._status.condition("PodReadyToStartContainers", "False")
        is_failed = any(
            self._status.ended(each["name"])["exitCode"] for each in self._status.containers
        )
        self._status.phase = "Failed" if is_failed else "Succeeded"
        self._status.judge()
        self._publish()

    async def _stop(self, grace_seconds: float) -> None:
        """End what runs; the life is over."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        running = [each for each in self._containers.values() if each.is_running]
        for each in running:
            self._note("Normal", "Killing", f"Stopping container {each.name}", container=each.name)
        codes = await asyncio.gather(*(each.end(grace_seconds) for each in running))
        ended = {each.name: code for each, code in zip(running, codes, strict=True)}
        for name, container in self._containers.items():
            if "running" in self._status.states[name]:
                self._ended(name, ended[name] if name in ended else await container.wait())
        self._close_forwards()

    async def _delete(self, grace_seconds: float) -> None:
        await self._stop(grace_seconds)
        ended = [self._status.ended(each["name"]) for each in self._status.containers]
        if all(ended) and self._status.phase not in ("Failed", "Succeeded"):
            self._status.condition("PodReadyToStartContainers", "False")
            is_failed = any(each["exitCode"] for each in ended)
            self._status.phase = "Failed" if is_failed else "Succeeded"
            self._status.judge()
        self._publish()
        with contextlib.suppress(Refused):
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
            self._kubelet.store.delete(self.key, options)

    def _close_forwards(self) -> None:
        for forward in self._forwards:
            forward.close()

    # -- what tests let happen --------------------------------------------------------------------------------------

    async def evict(self, message: str = "") -> None:
        """The node needs its room."""
        message = message or "The node was low on resource: ephemeral-storage. "
        self._note("Warning", "Evicted", message)
        await self._stop(0)
        self._status.condition("PodReadyToStartContainers", "False")
        self._status.phase, self._status.reason, self._status.message = "Failed", "Evicted", message
        self._status.judge()
        self._publish()

    async def oom(self, container: str = "") -> None:
        """The kernel kills a container that wanted more memory than it may have."""
        name = container or self._spec["containers"][0]["name"]
        self._causes[name] = "OOMKilled"
        self._containers[name].kill()

    async def kill(self, container: str = "") -> None:
        """Somebody kills a container."""
        self._containers[container or self._spec["containers"][0]["name"]].kill()

    async def preempt(self) -> None:
        """A pod of higher priority takes its place."""
        text = "default-scheduler: preempting to accommodate a higher priority pod"
        self._status.condition("DisruptionTarget", "True", "PreemptionByScheduler", text)
        self._publish()
        self._kubelet.store.delete(self.key)

    async def lose_node(self) -> None:
        """The node says nothing any more: what runs there is out of reach, and the pod is to be deleted, which nobody does."""
        self._is_lost = True
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        await self.freeze()
        self._status.condition("Ready", "False")
        text = "Taint manager: deleting due to NoExecute taint"
        self._status.condition("DisruptionTarget", "True", "DeletionByTaintManager", text)
        self._publish()
        self._note("Warning", "NodeNotReady", "Node is not ready", component="node-controller")
        self._kubelet.store.delete(self.key)

    async def remove_node(self) -> None:
        """The node is gone for good, and so are its pods."""
        if not self._is_lost:
            await self.lose_node()
        text = "PodGC: node no longer exists"
        self._status.condition("DisruptionTarget", "True", "DeletionByPodGC", text)
        self._status.phase = "Failed"
        self._publish()
        self._kubelet.store.delete(self.key, {"gracePeriodSeconds": 0})

    async def move(self) -> Object:
        """Another address from now on; nothing answers at the old one."""
        if not self._forwards:
            raise ValueError("a pod that listens itself, or does not yet, cannot move")
        address = self._kubelet.address()
        for forward in self._forwards:
            await forward.listen(address)
        self._status.address(address)
        self._publish()
        return {"address": address}

    async def cut(self) -> None:
        """Break all connections to it."""
        for forward in self._forwards:
            forward.cut()

    async def freeze(self) -> None:
        """Nothing of it does anything any more; connections stay."""
        for each in self._containers.values():
            each.freeze(is_frozen=True)

    async def thaw(self) -> None:
        """After `freeze`."""
        for each in self._containers.values():
            each.freeze(is_frozen=False)

    # -- words ------------------------------------------------------------------------------------------------------

    def _wait_for(self, name: str, reason: str, text: str) -> None:
        self._status.states[name] = {"waiting": {"message": text, "reason": reason}}
        self._status.judge()
        self._publish()

    def _publish(self) -> None:
        def change(pod: Object) -> None:
            pod["status"] = self._status.whole(pod["metadata"].get("generation", 1))

        self._kubelet.store.update(self.key, self.uid, change)

    def _note(self, type_: str, reason: str, message: str, **more: Any) -> None:
        self._kubelet.note(self._pod, type_, reason, message, **more)
