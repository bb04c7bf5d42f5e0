"""Tests of oj_daemon/main.py: start, drain and end, with stand-ins for everything behind the listener."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from oj_daemon import access, log, main, settings
from oj_daemon.access import FULL_TOKEN, OWNER, Principal
from oj_daemon.core.state import State
from oj_daemon.errors import OjError, StoreError, WireError
from oj_daemon.main import AlreadyRunning, Ending, run
from oj_daemon.probes import Probes
from oj_daemon.readiness import Readiness
from oj_daemon.settings import READY, START_MARKER, Settings
from oj_daemon.store import lock
from oj_daemon.wire.client import Client, RemoteError, Reply
from oj_daemon.wire.replies import AnyReply, Ok
from oj_daemon.wire.requests import AnyRequest, JobPrune
from oj_daemon.works import Figures
from oj_daemon.works import start as start_works
from tests.support.probes import ask, figure, free_port, unmet

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()
    yield
    log.tear_down()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


class FakeWorks:
    """Answers Ok; a prune waits until it is let go, and so may the drain and the close."""

    def __init__(self) -> None:
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.said: list[str] = []
        self.pruning = asyncio.Event()
        self.prune = asyncio.Event()
        self.draining = asyncio.Event()
        self.drained = asyncio.Event()
        self.drained.set()
        self.drain_error: StoreError | None = None

    async def handle(self, request: AnyRequest, _who: Principal = OWNER) -> AnyReply:
        if isinstance(request, JobPrune):
            self.pruning.set()
            await self.prune.wait()
            self.said.append("pruned")
        return Ok()

    def check(self, request: AnyRequest, who: Principal) -> AnyRequest:
        return access.check(State(), who, request, 0)

    def authenticate(self, token: str) -> Principal | None:
        return FULL_TOKEN if token == "full" else None

    def tell(self, readiness: Readiness) -> None:
        """Nothing is known here."""

    def local_principal(self, token: str) -> Principal | None:
        return self.authenticate(token) if token else OWNER

    def figures(self) -> Figures:
        return Figures(jobs_active=3, epoch=2, seq=17, warnings=("from the works",))

    async def drain(self, *, kill: bool) -> None:
        self.said.append(f"drain kill={kill}")
        self.draining.set()
        if self.drain_error is not None:
            raise self.drain_error
        await self.drained.wait()
        self.said.append("drained")

    async def close(self) -> None:
        self.said.append("closed")


class Daemon:
    """A daemon that runs in this process."""

    def __init__(self, config: Settings) -> None:
        self.config = config
        self.works = FakeWorks()
        self.ready = asyncio.Event()
        self.ending: Ending | None = None
        self.failure: BaseException | None = None

    async def call(self, type: str, **fields: Any) -> Reply:  # noqa: A002 - the wire's word and values
        def ask() -> Reply:
            with Client(self.config) as client:
                return client.call(type, **fields)

        return await asyncio.to_thread(ask)

    def log(self) -> str:
        return self.config.log_path.read_text()


def config(folder: Path, **environ: str) -> Settings:
    return settings.load({"OJ_STATE_DIR": str(folder), **environ})


@contextlib.asynccontextmanager
async def running(found: Settings) -> AsyncIterator[Daemon]:
    """A daemon that is ready; at the end of the block it has ended, and that is waited for."""
    daemon = Daemon(found)

    async def live() -> None:
        async def start(_: Settings, __: object) -> FakeWorks:
            asyncio.get_running_loop().call_soon(daemon.ready.set)
            return daemon.works

        try:
            daemon.ending = await run(found, start)
        except Exception as exc:  # noqa: BLE001 - what the test is about
            daemon.failure = exc

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(live())
        await daemon.ready.wait()
        yield daemon


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_a_daemon_says_who_it_is_and_leaves_nothing_behind(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(config(folder)) as daemon:
        assert await daemon.call("Ping") == {"type": "Ok"}
        assert left_in(folder) == {
            "daemon.lock",
            "daemon.log",
            "daemon.pid",
            "daemon.sock",
            "daemon.version",
        }
        record = lock.read_pid(folder)
        assert record is not None
        assert record.pid == os.getpid()
        assert lock.is_alive(record)
        assert (folder / "daemon.version").read_text() == f"{record.version}\n"
        assert await daemon.call("DaemonStop") == {
            "type": "DaemonStopping",
            "pid": os.getpid(),
            "drain_seconds": 5.0,
            "jobs_active": 3,
        }
    assert daemon.ending == Ending(0, clean=True)
    assert daemon.works.said == ["drain kill=False", "drained", "closed"]
    assert left_in(folder) == {"daemon.lock", "daemon.log"}
    assert capsys.readouterr().out == f"{READY}\n"


async def test_the_log_begins_with_every_decision_and_its_reason(folder: Path) -> None:
    async with running(config(folder, OJ_TIMEOUT_EXIT_MS="soon")) as daemon:
        await daemon.call("DaemonStop")
    marker, first, second, *_ = daemon.log().splitlines()
    assert marker.startswith(START_MARKER)
    assert "profile=workstation (KUBERNETES_SERVICE_HOST is not set); " in first
    assert f"state_dir={folder} (OJ_STATE_DIR); " in first
    assert first.endswith("; lease_holder=none (runtime local)")
    assert "WARNING oj_daemon.main: OJ_TIMEOUT_EXIT_MS='soon' is ignored" in second


async def test_status_tells_how_it_is_and_why(folder: Path) -> None:
    async with running(config(folder, OJ_LOG="nonsense")) as daemon:
        info = await daemon.call("DaemonStatus")
        await daemon.call("DaemonStop")
    assert (info["status"], info["pid"], info["profile"], info["state_dir"]) == (
        "running",
        os.getpid(),
        "workstation",
        str(folder),
    )
    assert (info["jobs_active"], info["epoch"], info["seq"]) == (3, 2, 17)
    assert {"name": "file_lock", "value": "yes", "reason": "profile workstation"} in info[
        "settings"
    ]
    assert info["warnings"] == [
        "OJ_LOG='nonsense' is ignored: expected debug or info or warning or error; using info",
        "from the works",
    ]


async def test_a_drain_lets_in_questions_and_no_changes_and_waits_for_the_change_that_was_in(
    folder: Path,
) -> None:
    async with running(config(folder)) as daemon:
        async with asyncio.TaskGroup() as group:
            pruning = group.create_task(daemon.call("JobPrune"))
            await daemon.works.pruning.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            while (await daemon.call("DaemonStatus"))["status"] != "draining":
                pass
            with pytest.raises(RemoteError, match=r"^daemon is draining$") as failure:
                await daemon.call("JobPrune")
            assert failure.value.code == "unavailable"
            assert await daemon.call("Ping") == {"type": "Ok"}
            daemon.works.prune.set()
        assert pruning.result() == {"type": "Ok"}
    assert daemon.works.said == ["pruned", "drain kill=False", "drained", "closed"]
    assert daemon.ending == Ending(0, clean=True)


async def test_a_drain_that_takes_too_long_is_cut_and_the_log_is_closed_all_the_same(
    folder: Path,
) -> None:
    async with running(config(folder, OJ_DRAIN_TIMEOUT_MS="10")) as daemon:
        daemon.works.drained.clear()
        await daemon.call("DaemonStop")
    assert daemon.works.said == ["drain kill=False", "closed"]
    assert daemon.ending == Ending(0, clean=False)
    assert "drain took longer than 0.01 s" in daemon.log()
    assert left_in(folder) == {"daemon.lock", "daemon.log"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_drain_at_once(folder: Path, number: signal.Signals) -> None:
    async with running(config(folder, OJ_DRAIN_TIMEOUT_MS="600000")) as daemon:
        daemon.works.drained.clear()
        os.kill(os.getpid(), number)
        await daemon.works.draining.wait()
        os.kill(os.getpid(), number)
    assert daemon.ending == Ending(128 + number, clean=False)
    assert "drained" not in daemon.works.said
    assert left_in(folder) == {"daemon.lock", "daemon.log"}


async def test_a_stop_that_kills_says_how_much_longer_it_may_take(folder: Path) -> None:
    async with running(config(folder)) as daemon:
        reply = await daemon.call("DaemonStop", kill=True)
    assert reply["drain_seconds"] == 5 + main.KILL_SECONDS
    assert daemon.works.said == ["drain kill=True", "drained", "closed"]


async def test_a_daemon_whose_log_breaks_ends_with_that_error(folder: Path) -> None:
    async with running(config(folder)) as daemon:
        daemon.works.broken.set_exception(StoreError("disk full", code="full"))
    assert isinstance(daemon.failure, StoreError)
    assert daemon.failure.message == "disk full"
    assert left_in(folder) == {"daemon.lock", "daemon.log"}


async def test_a_log_that_breaks_while_draining_is_an_error_too(folder: Path) -> None:
    async with running(config(folder)) as daemon:
        daemon.works.drain_error = StoreError("disk full")
        await daemon.call("DaemonStop")
    assert isinstance(daemon.failure, StoreError)


async def test_a_second_daemon_touches_nothing_of_the_first(folder: Path) -> None:
    async with running(config(folder)) as daemon:
        before = {
            name: (folder / name).read_bytes() for name in left_in(folder) if name != "daemon.sock"
        }
        inode = (folder / "daemon.sock").stat().st_ino
        with pytest.raises(AlreadyRunning, match=rf"already running \(pid {os.getpid()}"):
            await run(config(folder), start_works)
        assert {name: (folder / name).read_bytes() for name in before} == before
        assert (folder / "daemon.sock").stat().st_ino == inode
        assert await daemon.call("Ping") == {"type": "Ok"}
        await daemon.call("DaemonStop")


async def test_files_left_by_a_killed_daemon_do_not_hold_up_the_next(folder: Path) -> None:
    (folder / "daemon.pid").write_text('{"pid": 1, "start_time": "1", "boot_id": "x"}')
    (folder / "daemon.version").write_text("0")
    (folder / "daemon.lock").touch()
    async with running(config(folder)) as daemon:
        await daemon.call("DaemonStop")
    assert daemon.ending == Ending(0, clean=True)


async def test_in_a_cluster_there_is_no_lock_and_the_log_is_json_on_stdout(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(config(folder, OJ_PROFILE="cluster")) as daemon:
        assert "daemon.lock" not in left_in(folder)
        await daemon.call("DaemonStop")
    lines = capsys.readouterr().out.splitlines()
    messages = [json.loads(line)["message"] for line in lines]
    assert messages[0].startswith("oj daemon ")
    assert (messages.count(READY), messages[-1]) == (1, "ended")
    assert left_in(folder) == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OJ_RUNTIME", "docker"),
    ],
)
async def test_what_was_asked_for_by_name_and_is_not_there_ends_the_daemon(
    folder: Path, name: str, value: str
) -> None:
    with pytest.raises(OjError, match=rf"^{name}={value}: this version of oj cannot do that$"):
        await run(config(folder, **{name: value}), start_works)
    assert left_in(folder) == {"daemon.lock", "daemon.log"}


async def test_a_cluster_that_was_asked_for_by_name_has_to_be_there(folder: Path) -> None:
    with pytest.raises(OjError, match=r"^OJ_RUNTIME=kubernetes: .*so this is no pod$"):
        await run(config(folder, OJ_RUNTIME="kubernetes", OJ_LEASE="off"), start_works)


async def test_without_a_token_there_is_no_port(folder: Path) -> None:
    with pytest.raises(OjError, match=r"^OJ_TCP_PORT=7777: without a token anybody could connect$"):
        await run(config(folder, OJ_TCP_PORT="7777"), start_works)


async def test_a_path_too_long_for_the_socket_is_found_before_the_log_is_read(folder: Path) -> None:
    async def start(_: Settings, __: object) -> FakeWorks:
        pytest.fail("the works were started")

    with pytest.raises(WireError, match=r"^socket path too long"):
        await run(config(folder / ("x" * 100)), start)


# The HTTP port


async def test_it_lives_before_the_log_is_read_is_ready_after_that_and_no_more_when_it_drains(
    folder: Path,
) -> None:
    port = free_port()
    found = config(folder, OJ_HTTP_PORT=str(port))
    began, go_on, serving = asyncio.Event(), asyncio.Event(), asyncio.Event()
    works = FakeWorks()
    works.drained.clear()

    async def start(_: Settings, __: object) -> FakeWorks:
        began.set()
        await go_on.wait()
        asyncio.get_running_loop().call_soon(serving.set)
        return works

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        daemon = group.create_task(run(found, start))
        await began.wait()
        assert (await asyncio.to_thread(ask, port, "/healthz"))[0] == 200
        assert await asyncio.to_thread(unmet, port) == {"log": "not yet"}
        assert await asyncio.to_thread(figure, port, "oj_is_leader") == 0
        go_on.set()
        await serving.wait()
        assert await asyncio.to_thread(unmet, port) == {}
        assert await asyncio.to_thread(figure, port, "oj_is_leader") == 1
        os.kill(os.getpid(), signal.SIGTERM)
        await works.draining.wait()
        assert await asyncio.to_thread(unmet, port) == {"draining": "stop asked for by SIGTERM"}
        assert (await asyncio.to_thread(ask, port, "/healthz"))[0] == 200
        works.drained.set()
    assert daemon.result() == Ending(0, clean=True)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(ask, port, "/healthz")


async def test_status_tells_whether_it_is_ready_and_what_it_waits_for(folder: Path) -> None:
    async with running(config(folder)) as daemon:
        info = await daemon.call("DaemonStatus")
        assert (info["ready"], info["waits_for"]) == (True, [])
        daemon.works.drained.clear()
        await daemon.call("DaemonStop")
        info = await daemon.call("DaemonStatus")
        assert (info["ready"], info["waits_for"]) == (
            False,
            ["draining: stop asked for by a request"],
        )
        daemon.works.drained.set()


async def test_a_log_that_breaks_makes_it_unfit_to_live(folder: Path) -> None:
    probes = Probes(config(folder))
    works = FakeWorks()

    async def start(_: Settings, __: object) -> FakeWorks:
        asyncio.get_running_loop().call_soon(works.broken.set_exception, StoreError("disk full"))
        return works

    with pytest.raises(StoreError, match="disk full"):
        await run(config(folder), start, probes)
    assert probes.readiness.broken == main.LOG_BROKEN


async def test_a_port_that_was_asked_for_by_name_and_is_taken_ends_the_daemon_before_the_log_is_read(
    folder: Path,
) -> None:
    async def start(_: Settings, __: object) -> FakeWorks:
        pytest.fail("the works were started")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = config(folder, OJ_HTTP_PORT=str(port))
        with pytest.raises(OjError, match=rf"^listen on 127\.0\.0\.1 port {port} ") as failure:
            await run(found, start)
    assert "OJ_HTTP_PORT" in failure.value.hint
    assert left_in(folder) == {"daemon.lock", "daemon.log"}


async def test_a_taken_port_that_only_the_profile_chose_is_a_warning_that_everyone_sees(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(settings, "HTTP_PORT", taken.getsockname()[1])
        found = config(folder, OJ_PROFILE="cluster", OJ_HTTP_BIND="127.0.0.1")
        async with running(found) as daemon:
            info = await daemon.call("DaemonStatus")
            await daemon.call("DaemonStop")
    assert any("for probes and metrics: " in warning for warning in info["warnings"])


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["--version"], 0, "oj daemon ", ""),
        (["-h"], 0, "Usage: oj daemon", ""),
        (["--bogus"], 1, "", "Error: unexpected argument '--bogus'\n"),
    ],
)
def test_the_command_line_of_the_daemon(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, out: str, err: str
) -> None:
    assert main.main(arguments) == code
    said = capsys.readouterr()
    assert said.out.startswith(out)
    assert said.err == err


def test_a_mistake_in_the_settings_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OJ_PROFILE", "laptop")
    assert main.main([]) == 1
    assert capsys.readouterr().err == (
        "Error: OJ_PROFILE=laptop: no such profile\nHint: set OJ_PROFILE to workstation or cluster, or unset it\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OJ_TCP_PORT", "abc", "OJ_TCP_PORT=abc: not a port"),
        ("OJ_PROFILE", "laptop", "OJ_PROFILE=laptop: no such profile"),
        ("OJ_TCP_PORT", "7777", "OJ_TCP_PORT=7777: without a token anybody could connect"),
    ],
)
def test_in_a_cluster_the_cause_of_an_end_is_one_json_line_and_nothing_else(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    name: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
    monkeypatch.setenv("OJ_STATE_DIR", str(folder))
    monkeypatch.setenv("OJ_HTTP_PORT", "off")
    monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)  # and back: a daemon goes to the root
    assert main.main([]) == 1
    said = capfd.readouterr()
    assert said.err == ""
    last = json.loads(said.out.splitlines()[-1])
    assert (last["level"], last["message"]) == ("critical", message)
    assert last["hint"].startswith("set OJ_")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (61, "1m 1s"), (3600, "1h 0m 0s"), (90_061, "25h 1m 1s")]
)
def test_uptime_begins_with_what_is_not_zero(seconds: int, text: str) -> None:
    assert main.uptime(seconds) == text
