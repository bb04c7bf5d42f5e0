"""Tests of oj_daemon/wire/client.py, against a scripted daemon on a real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oj_daemon import settings
from oj_daemon.errors import WireError
from oj_daemon.settings import Settings
from oj_daemon.wire import client as wire_client
from oj_daemon.wire.client import Client, RemoteError
from oj_daemon.wire.names import PROTOCOL
from tests.support.fake_daemon import HANG_UP, SILENCE, FakeDaemon

ROOT = Path(__file__).resolve().parents[3]
OK = {"type": "Ok"}


@pytest.fixture
def fake(folder: Path) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(folder / "daemon.sock").start()
    daemon.answer("Ping", OK)
    yield daemon
    daemon.close()


def config(folder: Path, **environ: str) -> Settings:
    return settings.load({"OJ_STATE_DIR": str(folder), **environ})


def test_the_greeting_is_sent_once_for_many_requests(folder: Path, fake: FakeDaemon) -> None:
    with Client(config(folder)) as client:
        assert [client.call("Ping") for _ in range(3)] == [OK] * 3
        assert client.daemon_version == "fake"
    assert [hello["protocol"] for hello in fake.hellos] == [PROTOCOL]
    assert len(fake.of("Ping")) == 3


def test_fields_travel_as_they_are(folder: Path, fake: FakeDaemon) -> None:
    fake.answer("JobShow", {"type": "JobDetail", "id": "ünï"})
    with Client(config(folder)) as client:
        assert client.call("JobShow", id="ünï\0\n")["id"] == "ünï"
    assert fake.of("JobShow") == [{"id": "ünï\0\n"}]


def test_an_error_reply_is_raised_and_the_connection_goes_on(
    folder: Path, fake: FakeDaemon
) -> None:
    fake.refuse("JobShow", "no job 'x'", code="not_found", hint="oj job list")
    with Client(config(folder)) as client:
        with pytest.raises(RemoteError, match=r"^no job 'x'$") as failure:
            client.call("JobShow", id="x")
        assert (failure.value.code, failure.value.hint) == ("not_found", "oj job list")
        assert client.call("Ping") == OK
    assert len(fake.hellos) == 1


def test_without_a_socket_the_daemon_is_not_running(folder: Path) -> None:
    with pytest.raises(WireError, match=r"^Daemon not running$") as failure:
        Client(config(folder)).call("Ping")
    assert (failure.value.code, failure.value.hint) == ("unavailable", "oj daemon start")


def test_a_socket_that_nobody_listens_on_means_the_same(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(folder / "daemon.sock"))
    with pytest.raises(WireError, match=r"^Daemon not running$"):
        Client(config(folder)).call("Ping")


def test_a_path_that_is_too_long_for_a_socket_is_named(folder: Path) -> None:
    with pytest.raises(WireError, match=r"^socket path too long: .* the limit is 107$") as failure:
        Client(config(folder / ("x" * 120))).call("Ping")
    assert failure.value.code == "path_too_long"


@pytest.mark.parametrize(
    "url", ["http://x", "tcp://", "tcp://host", "tls://host:port", "host:7777", "tcp://:7777"]
)
def test_a_url_of_another_form_is_refused_with_the_form_that_is_expected(
    folder: Path, url: str
) -> None:
    with pytest.raises(WireError, match="expected tls://host:port or tcp://host:port") as failure:
        Client(config(folder, OJ_DAEMON_URL=url)).call("Ping")
    assert failure.value.message.startswith(f"OJ_DAEMON_URL={url}: ")


@pytest.mark.usefixtures("fake")
def test_another_protocol_is_an_error_before_anything_is_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_client, "PROTOCOL", PROTOCOL + 1)
    client = Client(config(folder))
    with pytest.raises(
        WireError, match=r"^the daemon \(fake\) speaks protocol 1, this oj \(.*\) speaks 2$"
    ) as failure:
        client.call("Ping")
    assert (failure.value.code, failure.value.hint) == ("incompatible", "oj daemon restart")
    assert client.daemon_protocol == PROTOCOL


def test_a_greeting_alone_asks_nothing(folder: Path, fake: FakeDaemon) -> None:
    with Client(config(folder)) as client:
        client.greet()
        assert client.daemon_version == "fake"
        assert client.call("Ping") == OK
    assert len(fake.hellos) == 1
    assert fake.requests == [{"type": "Ping"}]


def test_a_daemon_that_does_not_answer_is_a_timeout_and_its_late_reply_is_never_taken_for_another(
    folder: Path, fake: FakeDaemon
) -> None:
    fake.answer("JobShow", SILENCE)
    with Client(config(folder, OJ_TIMEOUT_IPC_MS="50")) as client:
        with pytest.raises(
            WireError, match=r"^JobShow: the daemon did not answer within 0\.05 s$"
        ) as failure:
            client.call("JobShow", id="x")
        assert failure.value.code == "timeout"
        assert client.call("Ping", timeout_ms=20_000) == OK
    assert len(fake.hellos) == 2


def test_what_a_request_asks_the_daemon_to_wait_is_added_to_the_limit(
    folder: Path, fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    original = Client._talk

    def note(self: Client, name: str, request: bytes, seconds: float) -> dict[str, object]:
        limits.append(seconds)
        return original(self, name, request, seconds)

    monkeypatch.setattr(Client, "_talk", note)
    fake.answer("Watch", {"type": "Changes"})
    with Client(config(folder, OJ_TIMEOUT_IPC_MS="1000")) as client:
        client.call("Watch", ids=[], wait_ms=3000)
        client.call("Watch", ids=[])
        client.call("Ping")
        client.call("Ping", timeout_ms=7000)
    assert limits == [4, 21, 1, 7]


def test_a_daemon_that_hangs_up_instead_of_answering_is_an_error_and_nothing_is_sent_twice(
    folder: Path, fake: FakeDaemon
) -> None:
    fake.answer("JobPrune", HANG_UP)
    with Client(config(folder)) as client:
        with pytest.raises(
            WireError, match=r"^JobPrune: connection closed by the daemon$"
        ) as failure:
            client.call("JobPrune")
        assert failure.value.code == "closed"
    assert len(fake.of("JobPrune")) == 1


def test_a_connection_that_was_closed_while_idle_is_made_anew(
    folder: Path, fake: FakeDaemon
) -> None:
    with Client(config(folder)) as client:
        client.call("Ping")
        fake.close()
        fake.start()
        assert client.call("Ping") == OK
    assert len(fake.hellos) == 2


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"\0\0\0\0", "frame of zero bytes"),
        (b"HTTP/1.1 400 Bad Request", "message too large"),
        (b"\0\0\0\1{", "the daemon sent something that is not JSON"),
        (b"\0\0\0\1\xff", "the daemon sent something that is not JSON"),
        (b"\0\0\0\x02[]", "the daemon sent something that is no reply"),
        (b'\0\0\0\x08{"a": 1}', "the daemon sent something that is no reply"),
    ],
)
def test_garbage_from_the_other_side_is_an_error(folder: Path, stream: bytes, message: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "daemon.sock"))
        server.listen()
        client = Client(config(folder))
        client.connect()
        other, _ = server.accept()
        with other:
            other.sendall(stream)
            with pytest.raises(WireError, match=f"^{message}"):
                client.greet()


@pytest.mark.usefixtures("fake")
def test_the_kernel_tells_who_listens(folder: Path) -> None:
    with Client(config(folder)) as client:
        assert client.peer_pid is None
        client.connect()
        assert client.peer_pid == os.getpid()


def test_an_interrupt_ends_the_wait_at_once(folder: Path, fake: FakeDaemon) -> None:
    fake.answer("Watch", SILENCE)
    program = (
        "from oj_daemon import settings; from oj_daemon.wire.client import Client\n"
        "client = Client(settings.load())\n"
        "try: client.call('Watch', ids=[])\n"
        "except KeyboardInterrupt: raise SystemExit(42 if client.peer_pid is None else 43)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        env={"OJ_STATE_DIR": str(folder), "PYTHONPATH": str(ROOT)},
    )
    try:
        fake.wait_for("Watch")
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 42
    finally:
        child.kill()
        child.wait()
