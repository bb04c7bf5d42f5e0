"""The hook helper, as the agent runs it: a process with a payload on stdin and a sidecar at the other end."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from oj_daemon.drivers.base import SOCKET_ENV, TOKEN_ENV, URL_ENV
from oj_daemon.sidecar import hook

HELPER = hook.__file__


class Sidecar:
    """A server that notes each request and answers what it is told to."""

    def __init__(self, server: socket.socket) -> None:
        self.server = server
        self.requests: list[tuple[str, bytes]] = []
        self.reply = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self.may_reply = threading.Event()
        self.may_reply.set()
        self.closed = threading.Event()
        self.asked = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.server.accept()
                with connection:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        while len(body) < int(fields["Content-Length"]):
            body += connection.recv(65536)
        self.requests.append((head.decode(), body))
        self.asked.set()
        if not self.may_reply.is_set():
            connection.settimeout(10)
            if connection.recv(1) == b"":
                self.closed.set()
                return
        if self.reply:
            connection.sendall(self.reply)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s.sock")


@pytest.fixture
def sidecar(path: str) -> Iterator[Sidecar]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        yield Sidecar(server)
        server.shutdown(socket.SHUT_RDWR)


def run(event: str, payload: bytes, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-I", "-S", HELPER, event],
        input=payload,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", **env},
        timeout=60,
        check=False,
    )


def reply(body: bytes, *fields: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_the_payload_goes_out_whole_and_the_reply_is_printed(sidecar: Sidecar, path: str) -> None:
    payload = json.dumps({"text": "ü\n" * 300_000}).encode()
    body = '{"decision": "block", "reason": "wait — ü"}'.encode()
    sidecar.reply = reply(body)
    done = run("Stop", payload, **{SOCKET_ENV: path, TOKEN_ENV: "secret"})
    assert (done.returncode, done.stdout, done.stderr) == (0, body, b"")
    [(head, sent)] = sidecar.requests
    assert sent == payload
    assert head.startswith("POST /api/v1/hooks/event/Stop HTTP/1.0\r\n")
    assert "Authorization: Bearer secret" in head


def test_a_sidecar_with_a_port_is_found_by_its_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sidecar = Sidecar(server)
        port = server.getsockname()[1]
        done = run("Notification", b"{}", **{URL_ENV: f"http://127.0.0.1:{port}", TOKEN_ENV: "t"})
        server.shutdown(socket.SHUT_RDWR)
    assert done.stdout == b"ok"
    assert sidecar.requests[0][1] == b"{}"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nnope",
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"hookSpecificOutput"',
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nx",
    ],
)
def test_the_agent_is_told_nothing_when_the_reply_is_no_good(
    sidecar: Sidecar, path: str, answer: bytes
) -> None:
    sidecar.reply = answer
    done = run("PermissionRequest", b"{}", **{SOCKET_ENV: path})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    "env",
    [
        {},
        {SOCKET_ENV: "/nonexistent/s.sock"},
        {URL_ENV: "http://127.0.0.1:1"},
        {URL_ENV: "https://x"},
        {URL_ENV: "http://127.0.0.1:none"},
    ],
)
def test_the_agent_goes_on_without_a_sidecar(env: dict[str, str]) -> None:
    done = run("Stop", b"{}", **env)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_it_waits_as_long_as_the_sidecar_does_and_its_death_is_seen(
    sidecar: Sidecar, path: str
) -> None:
    sidecar.may_reply.clear()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", HELPER, "PermissionRequest"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={SOCKET_ENV: path},
    )
    assert sidecar.asked.wait(30)
    assert process.poll() is None
    process.kill()
    process.communicate()
    assert sidecar.closed.wait(30)


def test_a_script_is_run_and_its_output_printed(sidecar: Sidecar, path: str) -> None:
    script = "printf %s 'it'\"'\"'s ü'\ncat\n" + f": {'x' * 300_000}\n"
    sidecar.reply = reply(script.encode(), "Oj-Run-Seconds: 30")
    done = run("SessionStart", b"{}", **{SOCKET_ENV: path})
    assert done.stdout.decode() == "it's ü"
    assert len(sidecar.requests) == 1


def test_a_script_that_fails_is_told_and_what_it_printed_still_counts(
    sidecar: Sidecar, path: str
) -> None:
    sidecar.reply = reply(b"echo context\necho sorry >&2\nexit 3\n", "Oj-Run-Seconds: 30")
    done = run("SessionStart", b"{}", **{SOCKET_ENV: path})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"context\n", b"")
    head, body = sidecar.requests[1]
    assert head.startswith("POST /api/v1/hooks/event/PrimeFailed ")
    assert json.loads(body) == {"message": "a command ended with 3: sorry"}


def test_a_script_that_takes_too_long_is_ended_with_what_it_started(
    sidecar: Sidecar, path: str
) -> None:
    script = b"echo before\nsleep 600 & echo $!\nsleep 600\necho after\n"
    sidecar.reply = reply(script, "Oj-Run-Seconds: 0.5")
    done = run("SessionStart", b"{}", **{SOCKET_ENV: path})
    first, pid = done.stdout.split()
    assert first == b"before"
    state = Path(f"/proc/{int(pid)}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"
    assert "took longer than 0.5 s" in json.loads(sidecar.requests[1][1])["message"]


def test_what_a_script_leaves_in_the_background_does_not_hold_the_session_up(
    sidecar: Sidecar, path: str, tmp_path: Path
) -> None:
    left = tmp_path / "left"
    script = f"setsid sleep 600 & echo $! > {left}\necho done\n"
    sidecar.reply = reply(script.encode(), "Oj-Run-Seconds: 300")
    done = run("SessionStart", b"{}", **{SOCKET_ENV: path})
    assert done.stdout == b"done\n"
    subprocess.run(["kill", left.read_text().strip()], check=True)


def test_the_helper_loads_nothing_heavy() -> None:
    code = f"import sys; sys.argv=['h','Stop']; exec(open({HELPER!r}).read()); print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={SOCKET_ENV: "/nonexistent"},
        check=True,
    )
    assert {"json", "subprocess", "socket", "http", "re", "logging"}.isdisjoint(eval(done.stdout))
