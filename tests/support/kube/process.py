"""The test API server as a process of its own, for black-box tests.

Rule: ended by whoever started it, by its id.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[3]


class KubeProcess:
    """A running server; `kubeconfig` has credentials for it."""

    def __init__(self, folder: Path, namespace: str = "default") -> None:
        self.kubeconfig = folder / "kubeconfig"
        self.namespace = namespace
        port_file = folder / "kube-url"
        self._child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.kube",
                *("--port-file", str(port_file), "--kubeconfig", str(self.kubeconfig)),
                *("--namespace", namespace),
            ],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
        )
        until(port_file.exists, 30, "the API server listens")
        self.url = port_file.read_text()

    def fault(self, action: str, **options: Any) -> None:
        """Let something go wrong, see `Fault`."""
        self._ask("POST", "/admin/faults", {"action": action, **options})

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self._ask("DELETE", "/admin/faults")

    def requests(self) -> list[dict[str, Any]]:
        """What was asked so far."""
        found: list[dict[str, Any]] = self._ask("GET", "/admin/requests")
        return found

    def lease(self, name: str = "oj-daemon") -> dict[str, Any]:
        """The Lease."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/{name}"
        found: dict[str, Any] = self._ask("GET", path)
        return found

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        config = json.loads(self.kubeconfig.read_text())
        headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(asked, timeout=30) as reply:
            return json.loads(reply.read())
