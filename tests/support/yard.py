"""A daemon as a pod of some cluster, in a namespace of its own, and the way to it from here: for tests that do not know which.

Rule: only the API of Kubernetes is used, by the credentials of a kubeconfig, and nothing that one kind of cluster has. What is
made lies in the namespace, which is removed at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kubernetes import client, config, stream, utils

from oj_daemon.settings import TCP_PORT
from tests.support.waiting import until
from tests.support.world import World

Object = dict[str, Any]

MINUTES = float(os.environ.get("OJ_TEST_PATIENCE", "360"))
"""Seconds for what a cluster may have to fetch an image, make a volume or find a node for."""
SECONDS = min(120.0, MINUTES)
NAME = "oj-daemon"
GIT_PORT = 9418
GIT = "oj-test-git"
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONFINED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


class Yard:
    """The namespace and what is in it; `world` is the user, who is not in the cluster."""

    def __init__(self, kubeconfig: str, world: World, image: str, agent_image: str) -> None:
        self.world = world
        self.image, self.agent_image = image, agent_image
        self.space = f"oj-test-{secrets.token_hex(4)}"
        self._kubeconfig = kubeconfig
        self._configuration = client.Configuration()
        config.load_kube_config(kubeconfig, client_configuration=self._configuration)  # type: ignore[no-untyped-call]  # theirs
        self._api = client.ApiClient(self._configuration)
        self.core: Any = client.CoreV1Api(self._api)
        self.apps: Any = client.AppsV1Api(self._api)
        self.token = secrets.token_hex(24)
        self.push_url = ""
        """Of the repository, from here."""
        self._forwards: list[PortForward] = []

    # -- making and removing

    def make_namespace(self) -> None:
        """A namespace that takes restricted pods only."""
        level = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.core.create_namespace({"metadata": {"name": self.space, "labels": level}})

    def apply(self, *options: str) -> None:
        """What `oj daemon manifest` prints for this cluster."""
        words = (
            "--image",
            self.image,
            "--agent-image",
            self.agent_image,
            "--namespace",
            self.space,
        )
        more = ("--token-file", "-", "--agent-egress-port", str(GIT_PORT), *options)
        made = self.world.oj("daemon", "manifest", "-o", "json", *words, *more, stdin=self.token)
        utils.create_from_dict(self._api, made.json)  # type: ignore[no-untyped-call]  # theirs

    def serve_git(self) -> str:
        """Let a pod serve an empty repository that everybody may push to; its URL for pods."""
        listen = '--listen="$POD_IP" --port=9418 --reuseaddr --export-all --enable=receive-pack'
        script = f"exec git daemon {listen} --base-path=/srv/git /srv/git"
        image: Object = {"image": self.agent_image, "securityContext": CONFINED}
        image |= {"volumeMounts": [{"name": "git", "mountPath": "/srv/git"}]}
        address = {"fieldRef": {"fieldPath": "status.podIP"}}
        resources = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
        pod = {
            "metadata": {"name": GIT, "labels": {"app": GIT}},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                "securityContext": RESTRICTED,
                "volumes": [{"name": "git", "emptyDir": {}}],
                "initContainers": [
                    {
                        "name": "init",
                        **image,
                        "resources": resources,
                        "command": [
                            "git",
                            "init",
                            "-q",
                            "--bare",
                            "-b",
                            "main",
                            "/srv/git/repo.git",
                        ],
                    }
                ],
                "containers": [
                    {
                        "name": "git",
                        **image,
                        "resources": resources,
                        "command": ["sh", "-c", script],
                        "env": [{"name": "POD_IP", "valueFrom": address}],
                        "ports": [{"containerPort": GIT_PORT}],
                        "readinessProbe": {"tcpSocket": {"port": GIT_PORT}, "periodSeconds": 2},
                    }
                ],
            },
        }
        ports = [{"name": "git", "port": GIT_PORT, "targetPort": GIT_PORT, "protocol": "TCP"}]
        service = {"metadata": {"name": GIT}, "spec": {"selector": {"app": GIT}, "ports": ports}}
        self.core.create_namespaced_pod(self.space, pod)
        self.core.create_namespaced_service(self.space, service)
        self.until_ready(GIT)
        return f"git://{GIT}.{self.space}.svc:{GIT_PORT}/repo.git"

    def connect(self) -> None:
        """From now on the user's `oj` talks to this daemon, as `oj daemon connect` says."""
        port = str(self.forward(f"{NAME}-0", TCP_PORT))
        where = ("--kubeconfig", self._kubeconfig, "--namespace", self.space, "--local-port", port)
        said = self.world.oj("daemon", "connect", "--kube", *where, "--show-token", "-o", "json")
        self.world.environ |= {
            "OJ_STATE_DIR": str(self.world.folder / "mine"),
            **said.json["settings"],
        }

    def forward(self, pod: str, port: int) -> int:
        """A port here that leads to one of a pod, whichever pod of that name there is."""
        made = PortForward(self._configuration, self.space, pod, port)
        self._forwards.append(made)
        return made.port

    def close(self) -> None:
        """Remove the namespace, and wait until the cluster has done so."""
        for each in self._forwards:
            each.close()
        with _missing_is_fine():
            self.core.delete_namespace(self.space)
        until(lambda: self.space not in self._namespaces(), MINUTES, "the namespace is gone", 0.5)
        self._api.rest_client.pool_manager.clear()

    def _namespaces(self) -> list[str]:
        found = _read(self.core.list_namespace)
        return [each["metadata"]["name"] for each in found["items"]]

    # -- the repository

    def push(self, branch: str = "main") -> None:
        """What is in the project's folder is a branch of the remote."""
        self.world.git("add", "-A")
        self.world.git("commit", "-q", "-m", "more", "--allow-empty")
        self.world.git("push", "-q", self.push_url, f"HEAD:refs/heads/{branch}")

    def fetch(self, branch: str) -> None:
        """What is in a branch of the remote is in FETCH_HEAD."""
        self.world.git("fetch", "-q", self.push_url, branch)

    # -- looking

    def pods(self, selector: str = "") -> dict[str, Object]:
        """Pods by name."""
        found = _read(self.core.list_namespaced_pod, self.space, label_selector=selector)
        return {each["metadata"]["name"]: each for each in found["items"]}

    def places(self) -> dict[str, Object]:
        """Pods that the daemon has made."""
        return self.pods("app=oj-agent")

    def place_secrets(self) -> list[str]:
        """Names of Secrets that the daemon has made."""
        found = _read(self.core.list_namespaced_secret, self.space, label_selector="app=oj-agent")
        return [each["metadata"]["name"] for each in found["items"]]

    def until_ready(self, name: str, *, other_than: str = "") -> Object:
        """Wait until that pod is ready and has another UID; as it is then."""
        found: list[Object] = [{}]

        def look() -> bool:
            found[0] = self.pods().get(name, {})
            is_other = found[0].get("metadata", {}).get("uid", "") != other_than
            return is_other and is_ready(found[0])

        until(look, MINUTES, lambda: self.explain(name), 0.2)
        return found[0]

    def place_of(self, job_id: str) -> Object:
        """The pod of a job, once it can be worked in."""
        found: list[Object] = []

        def look() -> bool:
            found[:] = self.pods(f"oj.dev/job-id={job_id}").values()
            return bool(found) and is_ready(found[0])

        until(look, MINUTES, lambda: f"{found or self.world.show(job_id)}", 0.2)
        return found[0]

    def until_clean(self) -> None:
        """No place and no Secret of one is left."""
        until(
            lambda: not self.places() and not self.place_secrets(),
            SECONDS,
            lambda: f"left: {[*self.places()]}, {self.place_secrets()}",
            0.2,
        )

    def told(self, job_id: str, *texts: str, seconds: float = MINUTES) -> str:
        """Wait until `oj job show` says one of these; all that it says."""
        said = [""]

        def look() -> bool:
            said[0] = self.world.oj("job", "show", job_id).out
            return any(text in said[0].lower() for text in texts)

        until(look, seconds, lambda: f"{texts} in {said[0]}\n{self.world.log(job_id)}", 0.2)
        return said[0]

    def explain(self, name: str) -> str:
        """Why a pod is not as it should be."""
        status = self.pods().get(name, {}).get("status", "it is not there")
        with contextlib.suppress(client.ApiException):
            log = self.core.read_namespaced_pod_log(name, self.space, tail_lines=50)
            return f"{name}: {status}\n{log}"
        return f"{name}: {status}"

    # -- doing

    def delete(self, name: str, grace: int | None = None) -> None:
        """Delete a pod, as anybody may; 0: kill it."""
        options = {} if grace is None else {"grace_period_seconds": grace}
        self.core.delete_namespaced_pod(name, self.space, **options)

    def may(self, verb: str, resource: str, part: str = "") -> bool:
        """Whether the daemon's service account may do this."""
        user = f"system:serviceaccount:{self.space}:{NAME}"
        what = {"namespace": self.space, "verb": verb, "resource": resource, "subresource": part}
        asked = {"spec": {"user": user, "resourceAttributes": what}}
        ask = client.AuthorizationV1Api(self._api).create_subject_access_review
        return bool(_read(ask, asked)["status"]["allowed"])  # type: ignore[arg-type]  # dictionaries do, too

    def annotate_template(self, name: str, value: str) -> None:
        """Change the daemon's pod template, so that it is rolled out anew."""
        change = {"spec": {"template": {"metadata": {"annotations": {name: value}}}}}
        self.apps.patch_namespaced_stateful_set(
            NAME, self.space, change, _content_type="application/merge-patch+json"
        )


def is_ready(pod: Object) -> bool:
    """Whether it is ready and is to stay."""
    conditions = pod.get("status", {}).get("conditions") or ()
    is_going = pod.get("metadata", {}).get("deletionTimestamp")
    return not is_going and any(
        each["type"] == "Ready" and each["status"] == "True" for each in conditions
    )


def _read(question: Callable[..., Any], *args: str, **options: Any) -> Object:
    """An answer as the API sent it, without a class for each field."""
    found: Object = json.loads(question(*args, _preload_content=False, **options).data)
    return found


@contextlib.contextmanager
def _missing_is_fine() -> Iterator[None]:
    try:
        yield
    except client.ApiException as failure:
        if failure.status != 404:
            raise


class PortForward:
    """A port of loopback; each connection to it is one through the API server to the pod."""

    def __init__(self, configuration: Any, space: str, pod: str, port: int) -> None:
        self._configuration, self._space, self._pod, self._to = configuration, space, pod, port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.5)
        self.port: int = self._listening.getsockname()[1]
        self._is_over = False
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Stop listening; connections end soon."""
        self._is_over = True
        self._listening.close()
        for each in (self._accepting, *self._threads):
            each.join(15)

    def _accept(self) -> None:
        while not self._is_over:
            try:
                near, _ = self._listening.accept()
            except TimeoutError:
                continue
            except OSError:  # closed
                return
            near.setblocking(True)
            thread = threading.Thread(target=self._serve, args=(near,), daemon=True)
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]
            thread.start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            try:
                # A client of its own: the library changes it while it connects.
                core: Any = client.CoreV1Api(client.ApiClient(self._configuration))
                ask = core.connect_get_namespaced_pod_portforward
                forward = stream.portforward(ask, self._pod, self._space, ports=str(self._to))
            except client.ApiException:
                return  # there is no such pod just now: the client sees that its connection ends
            far = forward.socket(self._to)
            try:
                self._pass((near, far))
            finally:
                _let_go(forward.websocket, far)

    def _pass(self, ends: Sequence[socket.socket]) -> None:
        other = {ends[0]: ends[1], ends[1]: ends[0]}
        with contextlib.suppress(OSError):
            while not self._is_over:
                for each in select.select(ends, [], [], 0.5)[0]:
                    data = each.recv(65536)
                    if not data:
                        return
                    other[each].sendall(data)


def _let_go(websocket: Any, far: Any) -> None:
    """Let the library's thread end well: it has to see us end, and nothing that was sent to us may be left unread."""
    with contextlib.closing(far), contextlib.suppress(OSError):
        far.settimeout(5)
        far.shutdown(socket.SHUT_WR)
        while far.recv(65536):
            pass
    with contextlib.suppress(AssertionError):
        until(lambda: not websocket.connected, 5, "it has hung up")
    websocket.shutdown()  # it leaves the connection open where the other end was first
