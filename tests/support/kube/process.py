"""The test API server as a process of its own, for black-box tests; `Cluster` has a kubelet as well.

Rule: ended by whoever started it, by its id.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[3]
Object = dict[str, Any]
SECONDS = 60.0


class KubeProcess:
    """A running server; `kubeconfig` has credentials for it."""

    def __init__(self, folder: Path, namespace: str = "default", *options: str) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.namespace = namespace
        port_file = folder / "kube-url"
        marks = {name: value for name, value in os.environ.items() if name.startswith("OJ_TEST_")}
        self._child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.kube",
                *("--port-file", str(port_file), "--kubeconfig", str(self.kubeconfig)),
                *("--namespace", namespace),
                *options,
            ],
            cwd=ROOT,
            env={**marks, "PATH": os.environ["PATH"], "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
        )
        try:
            until(
                lambda: port_file.exists() or self._child.poll() is not None,
                SECONDS,
                "the API server listens",
            )
            self.url, self.admin_url = port_file.read_text().split()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Number of its process."""
        return self._child.pid

    def fault(self, action: str, **options: Any) -> None:
        """Let something go wrong, see `Fault`."""
        self.admin("POST", "faults", {"action": action, **options})

    def heal(self) -> None:
        """Let nothing go wrong any more; what is down stays so."""
        self.admin("DELETE", "faults")

    def forbid(self, method: str, match: str) -> None:
        """Refuse these requests as a Role does that does not name them, e.g. POST and /secrets."""
        self.fault("forbidden", method=method, match=match)

    def throttle(self, times: int | None = None, seconds: int = 1, **options: Any) -> None:
        """Answer 429 and say how long is to be waited."""
        self.fault(
            "status", status=429, times=times, headers={"Retry-After": str(seconds)}, **options
        )

    def down(self) -> None:
        """Refuse connections until `up`; open ones are broken."""
        self.admin("POST", "down")

    def up(self) -> None:
        """After `down`."""
        self.admin("POST", "up")

    def drop_watches(self, match: str = "") -> None:
        """Break the watches that are open."""
        self.admin("POST", "drop-watches", {"match": match})

    def expire(self, *, is_told: bool = True) -> None:
        """Make the versions so far too old (410); open watches are told at once, or only when they come again."""
        self.admin("POST", "expire", {"is_told": is_told})

    def quota(
        self, hard: Mapping[str, str], used: Mapping[str, str] | None = None, name: str = "q"
    ) -> None:
        """Set a ResourceQuota: `used` is taken by others, besides the pods that there are."""
        self.admin("POST", "quota", {"hard": dict(hard), "used": dict(used or {}), "name": name})

    def lift_quota(self) -> None:
        """After `quota`."""
        self.admin("DELETE", "quota")

    def requests(self) -> Sequence[Object]:
        """What was asked so far."""
        found: Sequence[Object] = self.admin("GET", "requests")
        return found

    def lines(self) -> Sequence[Object]:
        """What watches were told so far: type, name of the object, and when (CLOCK_MONOTONIC)."""
        found: Sequence[Object] = self.admin("GET", "lines")
        return found

    def set_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Say of a pod what a kubelet would, merged into what is said of it."""
        body = {"namespace": self.namespace, "name": name, "status": dict(status)}
        self.admin("POST", "status", body)

    def forget_requests(self) -> None:
        """Count anew."""
        self.admin("DELETE", "requests")

    def counts(self) -> Counter[str]:
        """How often was asked for what: `POST pods`, `WATCH pods`, `GET pods/NAME/log` and so on."""
        return Counter(_what(each["method"], each["path"]) for each in self.requests())

    def lease(self, name: str = "oj-daemon") -> dict[str, Any]:
        """The Lease."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/{name}"
        found: dict[str, Any] = self.ask("GET", path)
        return found

    def list(self, plural: str) -> Sequence[Object]:
        """All of a kind in our namespace: pods, secrets, events."""
        found: Sequence[Object] = self.ask("GET", self.path(plural))["items"]
        return found

    def path(self, plural: str, name: str = "") -> str:
        """Path of a kind or an object."""
        return f"/api/v1/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()

    def admin(self, method: str, what: str, body: object = None) -> Any:
        """One request to what is only for tests."""
        return json.loads(self._text(method, f"{self.admin_url}/admin/{what}", body))

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request to the API, which is counted as any other."""
        return json.loads(self._text(method, self.url + path, body))

    def _text(self, method: str, url: str, body: object = None) -> str:
        config = json.loads(self.kubeconfig.read_text())
        headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"  # fmt: skip
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(asked, timeout=SECONDS) as reply:
            return str(reply.read().decode())


class Cluster(KubeProcess):
    """A server with a kubelet: pods run. Needs Linux and root, see `container.unsupported`."""

    def __init__(
        self,
        folder: Path,
        namespace: str = "default",
        *,
        env: Mapping[str, str] | None = None,
        share: Sequence[Path] = (),
        is_direct: bool = False,
        entry_point: Path | None = None,
        daemon_image: str = "",
    ) -> None:
        self._pods = folder / "node"
        words = ["--kubelet", str(self._pods)]
        for path in (folder, *share):
            words += ["--share", str(path)]
        for name, value in (env or {}).items():
            words += ["--env", f"{name}={value}"]
        if entry_point is not None:
            words += ["--entry-point", str(entry_point)]
        if daemon_image:
            words += ["--daemon-image", daemon_image]
        super().__init__(folder, namespace, *words, *(["--direct"] if is_direct else []))

    def close(self) -> None:
        """End it with all its pods."""
        self._child.terminate()
        try:
            self._child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            super().close()
        shutil.rmtree(self._pods, ignore_errors=True)

    # -- what there is

    def create(self, plural: str, body: Object) -> Object:
        """Make an object."""
        made: Object = self.ask("POST", self.path(plural), body)
        return made

    def pod(self, name: str) -> Object | None:
        """A pod, None when there is none."""
        return next((each for each in self.list("pods") if each["metadata"]["name"] == name), None)

    def until_pod(
        self,
        name: str,
        condition: Callable[[Object], object],
        what: str = "",
        seconds: float = SECONDS,
    ) -> Object:
        """Wait until a pod is so; as it is then."""
        last: Object | None = None

        def look() -> bool:
            nonlocal last
            last = self.pod(name)
            return last is not None and bool(condition(last))

        until(
            look,
            seconds,
            lambda: f"{name} {what or condition}: {last and last['status']}",
            0.05,
        )
        assert last is not None
        return last

    def until_ready(self, name: str) -> Object:
        """Wait until it is ready."""
        return self.until_pod(name, is_ready, "is ready")

    def until_gone(self, name: str) -> None:
        """Wait until it is not there any more."""
        until(lambda: self.pod(name) is None, SECONDS, f"{name} is gone", 0.05)

    def log(self, name: str, container: str = "agent", tail: int | None = None) -> str:
        """What a container said."""
        query = f"?container={container}" + (f"&tailLines={tail}" if tail is not None else "")
        return self._text("GET", self.url + self.path("pods", name) + "/log" + query)

    def history(self, since: Object, plural: str = "pods") -> Sequence[tuple[str, Object]]:
        """Everything that a watch says about a kind since an object was as given: type and object of each line."""
        version = since["metadata"]["resourceVersion"]
        query = f"?watch=1&resourceVersion={version}&timeoutSeconds=1"
        lines = self._text("GET", self.url + self.path(plural) + query).splitlines()
        return [(each["type"], each["object"]) for each in map(json.loads, lines)]

    def pids(self) -> dict[str, Sequence[int]]:
        """Numbers of the processes of each pod."""
        found: dict[str, Sequence[int]] = self._let("pids")
        return found

    # -- what happens to pods that are still to come, until it is lifted

    def unschedulable(self, match: str = "", message: str = "") -> None:
        """No node takes pods whose names have this in them."""
        self._let("rule", kind="unschedulable", match=match, message=message)

    def unpullable(self, match: str = "", message: str = "") -> None:
        """Images with this in their names cannot be pulled."""
        self._let("rule", kind="image", match=match, message=message)

    def broken(self, match: str = "") -> None:
        """Images with this in their names have no program."""
        self._let("rule", kind="broken", match=match)

    def slow(self, seconds: float, match: str = "") -> None:
        """It takes long to make the containers of pods with such names."""
        self._let("rule", kind="slow", match=match, seconds=seconds)

    def hold(self, match: str = "") -> None:
        """Containers of pods with such names are not made before this is lifted."""
        self._let("rule", kind="hold", match=match)

    def lift(self, kind: str = "", match: str = "") -> None:
        """Let such rules hold no more: unschedulable, image, broken, slow, hold; empty: all."""
        self._let("lift", kind=kind, match=match)

    # -- what happens to pods that there are

    def evict(self, name: str, message: str = "") -> None:
        """The node needs its room."""
        self._let("evict", name=name, message=message)

    def oom(self, name: str, container: str = "") -> None:
        """A container wanted too much memory; its pod stays Running for a moment."""
        self._let("oom", name=name, container=container)

    def kill(self, name: str, container: str = "") -> None:
        """KILL a container."""
        self._let("kill", name=name, container=container)

    def preempt(self, name: str) -> None:
        """Another pod takes its place."""
        self._let("preempt", name=name)

    def lose_node(self, name: str) -> None:
        """Its node says nothing any more: it hangs, and is Terminating until somebody deletes it without grace."""
        self._let("lose_node", name=name)

    def remove_node(self, name: str) -> None:
        """Its node is gone for good, and the pod with it."""
        self._let("remove_node", name=name)

    def delete(self, name: str, grace: int | None = None) -> None:
        """Somebody else deletes it; 0: without grace."""
        self._let("delete", name=name, **({} if grace is None else {"gracePeriodSeconds": grace}))

    def recreate(self, name: str, *, keeps_secrets: bool = True) -> Object:
        """Somebody else replaces it with a copy, which has another UID."""
        made: Object = self._let("recreate", name=name, keeps_secrets=keeps_secrets)
        return made

    def move(self, name: str) -> str:
        """It has another address from now on, which is returned; nothing answers at the old one."""
        return str(self._let("move", name=name)["address"])

    def cut(self, name: str) -> None:
        """Break all connections to it."""
        self._let("cut", name=name)

    def freeze(self, name: str) -> None:
        """Stop all its processes."""
        self._let("freeze", name=name)

    def thaw(self, name: str) -> None:
        """Let them go on."""
        self._let("thaw", name=name)

    def _let(self, what: str, **given: Any) -> Any:
        return self.admin("POST", "kubelet", {"do": what, **given})


@contextlib.contextmanager
def cluster(folder: Path, namespace: str = "default", **options: Any) -> Iterator[Cluster]:
    """A cluster for one block."""
    made = Cluster(folder, namespace, **options)
    try:
        yield made
    finally:
        made.close()


def is_ready(pod: Object) -> bool:
    """Whether all of its containers are."""
    found = pod["status"].get("containerStatuses") or ()
    return bool(found) and all(each["ready"] for each in found)


def state(pod: Object, container: str = "agent") -> Object:
    """The state of a container; empty before it has one."""
    status = pod["status"]
    for each in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):  # fmt: skip
        if each["name"] == container:
            found: Object = each["state"]
            return found
    return {}


def _what(method: str, path: str) -> str:
    plain, _, query = path.partition("?")
    found = re.fullmatch(
        r"/(?:api|apis/[^/]+)/v1/(?:namespaces/[^/]+/)?([a-z]+)(/[^/]+)?(/[a-z]+)?", plain
    )
    if found is None:
        return f"{method} {plain}"
    verb = "WATCH" if re.search(r"(^|&)watch=(1|true)", query) else method
    return f"{verb} {found[1]}{'/NAME' if found[2] else ''}{found[3] or ''}"
