"""Tests of oj_daemon/wire/remote.py: the client against a scripted daemon behind real TLS on loopback."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from oj_daemon import settings
from oj_daemon.errors import OjError, WireError
from oj_daemon.settings import Settings
from oj_daemon.wire.client import Client
from oj_daemon.wire.remote import parse
from tests.support.fake_daemon import HANG_UP, FakeDaemon

OK = {"type": "Ok"}


class Far:
    """A daemon behind TLS, and what a client may know of it."""

    def __init__(self, folder: Path, name: str = "127.0.0.1") -> None:
        self.folder = folder
        self.ca = trustme.CA()
        made = self.ca.issue_cert(name)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.configure_cert(self.context)
        der = ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())
        self.fingerprint = hashlib.sha256(der).hexdigest()
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self.ca.cert_pem.bytes())
        self.daemon = FakeDaemon(folder / "unused", self.context).start()
        self.daemon.answer("Ping", OK)

    def settings(self, **environ: str) -> Settings:
        return settings.load(
            {
                "OJ_STATE_DIR": str(self.folder),
                "OJ_DAEMON_URL": f"tls://127.0.0.1:{self.daemon.port}",
                "OJ_AUTH_TOKEN": "sesame",
                **environ,
            }
        )


@pytest.fixture
def far(folder: Path) -> Iterator[Far]:
    made = Far(folder)
    yield made
    made.daemon.close()


def test_by_its_ca(far: Far) -> None:
    with Client(far.settings(OJ_TLS_CA=str(far.ca_file))) as client:
        assert [client.call("Ping") for _ in range(3)] == [OK] * 3
    assert [hello["token"] for hello in far.daemon.hellos] == ["sesame"]


@pytest.mark.parametrize("form", ["plain", "colons", "capitals"])
def test_by_its_fingerprint(far: Far, form: str) -> None:
    pin = far.fingerprint
    if form == "colons":
        pin = ":".join(pin[at : at + 2] for at in range(0, 64, 2))
    elif form == "capitals":
        pin = pin.upper()
    with Client(far.settings(OJ_TLS_FINGERPRINT=pin)) as client:
        assert client.call("Ping") == OK


def test_the_token_is_not_told_to_somebody_else(far: Far, folder: Path) -> None:
    other = trustme.CA()
    (folder / "other.pem").write_bytes(other.cert_pem.bytes())
    for known in (
        {},
        {"OJ_TLS_CA": str(folder / "other.pem")},
        {"OJ_TLS_FINGERPRINT": "0" * 64},
    ):
        with pytest.raises(WireError) as failure:
            Client(far.settings(**known)).call("Ping")
        assert failure.value.code == "untrusted"
        assert "oj daemon status" in failure.value.hint
    assert far.daemon.hellos == []


def test_a_certificate_for_another_name_is_not_trusted(folder: Path) -> None:
    far = Far(folder, "elsewhere.example")
    try:
        with pytest.raises(WireError, match="not trusted: IP address mismatch") as failure:
            Client(far.settings(OJ_TLS_CA=str(far.ca_file))).call("Ping")
        assert failure.value.code == "untrusted"
    finally:
        far.daemon.close()


def test_a_client_certificate_is_shown_where_one_is_asked_for(far: Far, folder: Path) -> None:
    far.context.verify_mode = ssl.CERT_REQUIRED
    far.ca.configure_trust(far.context)
    pinned = {"OJ_TLS_FINGERPRINT": far.fingerprint}
    with pytest.raises(WireError) as failure:
        Client(far.settings(**pinned)).call("Ping")
    assert failure.value.code in ("closed", "unreachable")
    assert failure.value.code == "unreachable" or "OJ_TLS_CLIENT_CERT" in failure.value.hint
    mine = folder / "me.pem"
    mine.write_bytes(far.ca.issue_cert("me@example.org").private_key_and_cert_chain_pem.bytes())
    with Client(far.settings(**pinned, OJ_TLS_CLIENT_CERT=str(mine))) as client:
        assert client.call("Ping") == OK


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OJ_TLS_FINGERPRINT", "12345"),
        ("OJ_TLS_CA", "/nonexistent/ca.pem"),
        ("OJ_TLS_CLIENT_CERT", "/nonexistent/me.pem"),
    ],
)
def test_what_cannot_be_used_is_named(far: Far, name: str, value: str) -> None:
    with pytest.raises(WireError, match=f"^{name}") as failure:
        Client(far.settings(**{name: value})).call("Ping")
    assert failure.value.code == "invalid"


def test_nobody_there_is_told_as_such(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = settings.load(
        {"OJ_STATE_DIR": str(folder), "OJ_DAEMON_URL": f"tls://127.0.0.1:{port}"}
    )
    with pytest.raises(WireError, match="Connection refused") as failure:
        Client(config).call("Ping")
    assert failure.value.code == "unreachable"


def test_a_port_that_does_not_speak_tls_is_told_as_such(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def babble() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"SSH-2.0-nonsense\r\n")
                connection.recv(1 << 16)

        thread = threading.Thread(target=babble)
        thread.start()
        url = f"tls://127.0.0.1:{plain.getsockname()[1]}"
        with pytest.raises(WireError, match="no TLS handshake"):
            Client(settings.load({"OJ_STATE_DIR": str(folder), "OJ_DAEMON_URL": url})).call("Ping")
        thread.join()


def test_a_silent_port_runs_into_the_time_limit(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"tls://127.0.0.1:{silent.getsockname()[1]}"
        config = settings.load(
            {"OJ_STATE_DIR": str(folder), "OJ_DAEMON_URL": url, "OJ_TIMEOUT_IPC_MS": "100"}
        )
        with pytest.raises(WireError, match="no TLS handshake in time") as failure:
            Client(config).call("Ping")
    assert failure.value.code == "timeout"


def test_a_connection_that_was_closed_meanwhile_is_made_again(far: Far) -> None:
    with Client(far.settings(OJ_TLS_CA=str(far.ca_file))) as client:
        assert client.call("Ping") == OK
        far.daemon.close()
        far.daemon.start()
        assert client.call("Ping") == OK
    assert len(far.daemon.hellos) == 2


def test_a_daemon_that_hangs_up_in_the_middle_is_closed(far: Far) -> None:
    far.daemon.answer("JobPrune", HANG_UP)
    with Client(far.settings(OJ_TLS_CA=str(far.ca_file))) as client:
        with pytest.raises(WireError, match=r"^JobPrune: connection closed") as failure:
            client.call("JobPrune")
        assert failure.value.code == "closed"
        assert "oj daemon logs" not in failure.value.hint


def test_large_replies_arrive_whole(far: Far) -> None:
    text = "x" * 3_000_000
    far.daemon.answer("JobLogs", {"type": "Log", "content": text})
    with Client(far.settings(OJ_TLS_CA=str(far.ca_file))) as client:
        assert client.call("JobLogs", id="y" * 2_000_000)["content"] == text


def test_the_token_is_also_found_in_the_configuration(folder: Path) -> None:
    file = folder / ".config" / "oj" / "token"
    file.parent.mkdir(parents=True)
    file.write_text("from the file\n")
    home = {"OJ_STATE_DIR": str(folder), "HOME": str(folder)}
    assert settings.load({**home, "OJ_DAEMON_URL": "tls://x:1"}).token.reveal() == "from the file"
    assert not settings.load(home).token  # a daemon of this machine needs none, and is none's


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("tls://oj.example:7777", ("tls", "oj.example", 7777)),
        ("tcp://127.0.0.1:1/", ("tcp", "127.0.0.1", 1)),
        ("tls://[::1]:7777", ("tls", "::1", 7777)),
    ],
)
def test_urls(url: str, parts: tuple[str, str, int]) -> None:
    assert parse(url) == parts


@pytest.mark.parametrize(
    "url",
    ["tls://", "tls://x", "tls://x:0", "tls://x:99999", "ssh://x:1", "tls://:1", "x:1", f"tls://x:{'9' * 5000}"],
)  # fmt: skip
def test_what_is_no_url_of_a_daemon(url: str) -> None:
    with pytest.raises(OjError, match="expected tls://host:port or tcp://host:port"):
        parse(url)
