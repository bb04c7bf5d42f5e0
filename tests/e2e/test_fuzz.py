"""Ill will at the daemon's port: others are served meanwhile, and it costs no memory that stays.

Ten seconds by default; OJ_TEST_FUZZ_SECONDS=600 for the ten minutes that a release takes.
"""

from __future__ import annotations

import os
import threading

import psutil
import pytest

from oj_daemon import settings
from oj_daemon.wire.client import Client, RemoteError
from tests.support.fuzz import Fuzz, idlers, slow_loris
from tests.support.probes import free_port
from tests.support.waiting import until
from tests.support.world import World

pytestmark = pytest.mark.chaos

SECONDS = float(os.environ.get("OJ_TEST_FUZZ_SECONDS", "10"))
TOKEN = "sesame"
GROWTH = 48 << 20
"""Bytes that the daemon may hold more than after the first half: buffers and what the allocator keeps."""


class Server:
    """A daemon with a port, and a friend of it."""

    def __init__(self, world: World) -> None:
        self.port = free_port()
        world.environ |= {"OJ_AUTH_TOKEN": TOKEN, "OJ_TCP_PORT": str(self.port)}
        world.oj("daemon", "start")
        info = world.oj("daemon", "status", "-o", "json").json
        self.process = psutil.Process(info["pid"])
        self.settings = settings.load(
            {
                "OJ_STATE_DIR": str(world.state),
                "OJ_DAEMON_URL": f"tls://127.0.0.1:{self.port}",
                "OJ_AUTH_TOKEN": TOKEN,
                "OJ_TLS_FINGERPRINT": info["tls_fingerprint"],
                "OJ_TIMEOUT_IPC_MS": "30000",
            }
        )

    def serve_somebody(self) -> None:
        """A newcomer who knows the token gets an answer."""
        with Client(self.settings) as client:
            assert client.call("JobList")["jobs"] == []

    def memory(self) -> int:
        return int(self.process.memory_info().rss)


@pytest.fixture
def server(world: World) -> Server:
    return Server(world)


@pytest.mark.timeout(SECONDS + 240)
def test_ill_will_of_all_kinds_costs_others_nothing(server: Server, world: World) -> None:
    crowd = [Fuzz(server.port, seed) for seed in range(4)]
    half = 0
    for part in range(2):
        threads = [threading.Thread(target=each.run, args=(SECONDS / 2,)) for each in crowd]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            server.serve_somebody()
        for thread in threads:
            thread.join()
        if part == 0:
            half = server.memory()
    assert sum(each.count for each in crowd) > 20
    assert server.memory() - half < GROWTH
    # None of them is left, and nothing was a bug.
    until(
        lambda: (
            len([each for each in server.process.net_connections() if each.status == "ESTABLISHED"])
            == 0
        ),
        60,
        "everybody was hung up on",
    )
    log = (world.state / "daemon.log").read_text()
    assert "Traceback" not in log
    assert "bug" not in log


@pytest.mark.timeout(300)
def test_a_thousand_who_say_nothing_keep_nobody_out(server: Server) -> None:
    before = server.memory()
    with idlers(server.port, 1000) as crowd:
        assert len(crowd) > 900
        for _ in range(5):
            server.serve_somebody()
        assert server.memory() - before < GROWTH
    server.serve_somebody()


@pytest.mark.timeout(300)
def test_those_who_speak_a_byte_at_a_time_keep_nobody_out(server: Server) -> None:
    with slow_loris(server.port, 200) as drip:
        for _ in range(20):
            drip()
            server.serve_somebody()


def test_what_a_stranger_reads_is_the_same_whoever_runs_there(server: Server) -> None:
    guessing = server.settings._replace(token=settings.Secret("guess"))
    with (
        Client(guessing) as client,
        pytest.raises(RemoteError, match="the token is not known here") as failure,
    ):
        client.call("DaemonStatus")
    assert client.daemon_version == ""
    assert failure.value.code == "unauthorized"
