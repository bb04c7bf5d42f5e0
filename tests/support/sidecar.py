"""A real `oj-sidecar` process in a test, and a small client for it.

Rule: whatever is started here is ended here, with everything below it, also when the test failed.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from oj_daemon import processes
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "oj_daemon.sidecar.main")
FAST = {
    "OJ_SIDECAR_SHUTDOWN_TIMEOUT_MS": "2000",
    "OJ_SIDECAR_DRAIN_TIMEOUT_MS": "0",
    "OJ_SIDECAR_SCREEN_DEBOUNCE_MS": "10",
    "OJ_SIDECAR_SCREEN_POLL_MS": "100",
    "OJ_SIDECAR_LOG_POLL_MS": "50",
    "OJ_SIDECAR_INPUT_DELAY_MS": "20",
    "OJ_SIDECAR_WRITE_TIMEOUT_MS": "300",
    "OJ_SIDECAR_NUDGE_TIMEOUT_MS": "300",
    "OJ_SIDECAR_IDLE_GRACE_MS": "50",
    "OJ_SIDECAR_SETTLE_MS": "800",
    "OJ_SIDECAR_GROOM_DISMISS_DELAY_MS": "50",
}
SECONDS = 20.0
"""Deadline of everything: far beyond what it takes, so that only a failure meets it."""


class Reply(NamedTuple):
    """What the API said."""

    status: int
    body: Any
    text: str
    headers: Mapping[str, str]


def decoded(text: str) -> Any:
    """JSON, None where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Sidecar:
    """One process."""

    def __init__(
        self,
        command: Sequence[str],
        *options: str,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        socket_path: str | None = "",
        under: Sequence[str] = (),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ojs-", dir="/tmp"))  # short: a socket's path
        self.socket = str(self.folder / "s") if socket_path == "" else socket_path
        self.token = ""
        self.cookie = f"test:{self.folder.name}"
        words = [*under, *PROGRAM]
        words += [] if "--session-dir" in options else ["--session-dir", str(self.folder / "d")]
        words += ["--socket", self.socket] if self.socket else []
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OJ_", "CLAUDE", "ANTHROPIC"))
        }
        self.env = {
            **inherited, **FAST, "PYTHONPATH": str(ROOT), "HOME": str(self.folder / "home"),
            processes.COOKIE: self.cookie, **(env or {}),
        }  # fmt: skip
        (self.folder / "home").mkdir()
        self.errors = (self.folder / "stderr").open("w+")
        self.process = subprocess.Popen(
            [*words, *options, "--", *command],
            env=self.env,
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,
        )

    # -- process ---------------------------------------------------------------------------------------------------

    def ready(self) -> Sidecar:
        """Wait until it answers."""

        def answers() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}: {self.log()}")
            with contextlib.suppress(OSError):
                return self.get("health").status == 200
            return False

        until(answers, SECONDS, self.log)
        return self

    def log(self) -> str:
        """What it said on stderr."""
        self.errors.flush()
        return (self.folder / "stderr").read_text()

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(SECONDS)

    def term(self) -> None:
        """As an operator or a container runtime would."""
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End it and everything below it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS)
        for process in self.family():
            with contextlib.suppress(PermissionError):
                processes.send(process, signal.SIGKILL, pidfd=True)
        if self.process.stdout:
            self.process.stdout.close()
        self.errors.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def family(self) -> list[processes.Process]:
        """Every process that stems from it, itself included."""
        return [process for process, _ in processes.carriers(self.cookie)]

    # -- API -------------------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request on a connection of its own."""
        connection: http.client.HTTPConnection
        tcp = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        connection = _Unix(self.socket) if self.socket else tcp
        with contextlib.closing(connection):
            sent = dict(headers or {})
            if self.token and "Authorization" not in sent:
                sent["Authorization"] = f"Bearer {self.token}"
            data = body if isinstance(body, str | bytes | None) else json.dumps(body)
            connection.request(method, f"/api/v1/{path}", data, sent)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
            return Reply(response.status, decoded(text), text, dict(response.headers))

    port = 0

    def get(self, path: str, **headers: str) -> Reply:
        """GET below /api/v1."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: object = None) -> Reply:
        """POST below /api/v1."""
        return self.request("POST", path, {} if body is None else body)

    def put(self, path: str, body: object) -> Reply:
        """PUT below /api/v1."""
        return self.request("PUT", path, body)

    def type(self, text: str, *, enter: bool = True) -> None:
        """Type a line."""
        reply = self.post("input", {"text": text, "enter": enter})
        assert reply.status == 200, reply.text

    def screen(self) -> str:
        """The screen as text."""
        return self.get("screen/text").text

    def shows(self, text: str) -> None:
        """Wait until the screen shows a text."""
        until(lambda: text in self.screen(), SECONDS, lambda: f"{text!r} on\n{self.screen()}")

    def output(self) -> bytes:
        """Everything that is still known of the raw output."""
        return base64.b64decode(self.get("output").body["data"])

    def state(self) -> str:
        """The state of the agent."""
        return str(self.get("agent").body["state"])

    def becomes(self, state: str) -> dict[str, Any]:
        """Wait for a state of the agent; its whole view."""
        until(
            lambda: self.state() == state,
            SECONDS,
            lambda: f"{state}; is {self.get('agent').text}\n{self.screen()}\n{self.log()}",
        )
        view: dict[str, Any] = self.get("agent").body
        return view

    @contextlib.contextmanager
    def in_background(self, path: str, body: object) -> Iterator[list[Reply]]:
        """A POST that may take long; its reply is in the list once the block is over."""
        replies: list[Reply] = []
        thread = threading.Thread(target=lambda: replies.append(self.post(path, body)))
        thread.start()
        yield replies
        thread.join(SECONDS)

    def session(self) -> aiohttp.ClientSession:
        """For WebSockets."""
        connector = aiohttp.UnixConnector(self.socket) if self.socket else None
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return aiohttp.ClientSession(connector=connector, headers=headers)

    def url(self, path: str) -> str:
        """Of a WebSocket."""
        return f"http://127.0.0.1:{self.port}{path}" if not self.socket else f"http://oj{path}"


@contextlib.contextmanager
def sidecar(
    command: Sequence[str],
    *options: str,
    is_ready: bool = True,
    **more: Any,
) -> Iterator[Sidecar]:
    """A sidecar for one block."""
    made = Sidecar(command, *options, **more)
    try:
        yield made.ready() if is_ready else made
    finally:
        made.close()
