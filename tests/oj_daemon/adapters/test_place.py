"""Tests of oj_daemon/adapters/place.py against a real place behind TLS: its steps, its files, and real agents in it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from oj_daemon.adapters.place import PlaceClient, PlaceRun
from oj_daemon.adapters.session import Session
from oj_daemon.core.events import AgentEvent, AgentExited, AgentReported
from oj_daemon.errors import AdapterError
from oj_daemon.settings import Secret
from oj_daemon.shell import RunState
from oj_daemon.wire.names import AgentId
from tests.support.places import Papers, PlaceProcess, agent_script, place
from tests.support.probes import free_port
from tests.support.sidecar import FAST, sidecar

pytestmark = pytest.mark.e2e  # a real process, and more than one

PATIENCE = 60.0


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def shared(papers: Papers) -> Iterator[PlaceProcess]:
    with place(papers) as made:
        yield made


@pytest.fixture
async def client(shared: PlaceProcess) -> AsyncIterator[PlaceClient]:
    async with asyncio.timeout(PATIENCE), shared.client() as made:
        yield made


# -- steps ---------------------------------------------------------------------------------------------------------


async def test_a_step_is_started_once_and_kept_until_it_is_forgotten(
    shared: PlaceProcess, client: PlaceClient, tmp_path: Path
) -> None:
    script = f"echo once >> {tmp_path}/count; echo $X; exit 7"
    first = await client.start("job/1", script, env={"X": "a b"}, cwd=str(tmp_path))
    assert (first.state, first.created) == (RunState.RUNNING, True)
    again = await client.start("job/1", script, env={"X": "a b"}, cwd=str(tmp_path))
    assert again.created is False
    while (found := await client.wait("job/1")).state is RunState.RUNNING:
        pass
    assert found == PlaceRun("job/1", RunState.EXITED, 7, output_size=4)
    async with shared.client() as other:  # a daemon that comes later
        assert await other.view("job/1") == found
        assert found in await other.runs()
        piece = await other.output("job/1", 0)
        assert (piece.data, piece.next_offset, piece.is_over) == (b"a b\n", 4, True)
    assert (tmp_path / "count").read_text() == "once\n"
    await client.forget("job/1")
    await client.forget("job/1")
    assert (await client.view("job/1")).state is RunState.NEVER
    assert (await client.end("job/1")).state is RunState.NEVER
    with pytest.raises(AdapterError) as gone:
        await client.output("job/1", 0)
    assert gone.value.code == "gone"


async def test_output_comes_when_it_is_written_with_one_request_at_a_time(
    client: PlaceClient, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "go")
    script = f"while read -r word; do echo $word; done < {tmp_path}/go; exit 3"
    await client.start("pump", script, env={})
    empty = await client.output("pump", 0, seconds=0.01)
    assert (empty.data, empty.is_over) == (b"", False)
    with (tmp_path / "go").open("w", buffering=1) as go:
        seen = b""
        for word in ("one", "two"):
            asking = asyncio.ensure_future(client.output("pump", len(seen)))
            go.write(f"{word}\n")
            seen += (await asking).data
        assert seen == b"one\ntwo\n"
        asking = asyncio.ensure_future(client.output("pump", len(seen)))
        waiting = asyncio.ensure_future(client.wait("pump"))
    assert (await asking).is_over
    assert (await waiting).status == 3


async def test_long_output_comes_in_pieces_of_a_bounded_size(client: PlaceClient) -> None:
    await client.start("long", "head -c 1000000 /dev/zero | tr '\\0' x", env={})
    sizes, offset = [], 0
    while True:
        piece = await client.output("long", offset, limit=400_000)
        sizes.append(len(piece.data))
        assert piece.next_offset == offset + len(piece.data)
        offset = piece.next_offset
        if piece.is_over:
            break
    assert sum(sizes) == 1_000_000
    assert max(sizes) <= 256 * 1024


async def test_a_step_is_ended_with_grace(client: PlaceClient) -> None:
    script = "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.05 || true; done"
    await client.start("polite", script, env={})
    await client.output("polite", 0)
    with pytest.raises(AdapterError) as busy:
        await client.forget("polite")
    assert busy.value.code == "conflict"
    ended = await client.end("polite", grace_seconds=30.0)
    assert (ended.state, ended.status) == (RunState.EXITED, 9)


async def test_what_makes_no_sense_is_refused_in_a_sentence(client: PlaceClient) -> None:
    with pytest.raises(AdapterError, match=r"ask the place oj-job-1 for exec: .*/nowhere"):
        await client.start("x", "true", env={}, cwd="/nowhere")
    with pytest.raises(AdapterError, match="cannot name one"):
        await client.start("../x", "true", env={})


# -- files ---------------------------------------------------------------------------------------------------------


async def test_files_go_in_and_out(shared: PlaceProcess, client: PlaceClient) -> None:
    data = bytes(range(256)) * 20_000
    assert Path(await client.put_file("in/a.bin", data)) == shared.files / "in/a.bin"
    assert await client.get_file("in/a.bin") == data
    with pytest.raises(AdapterError, match="more than 10 bytes"):
        await client.get_file("in/a.bin", most=10)
    with pytest.raises(AdapterError) as gone:
        await client.get_file("in/none")
    assert gone.value.code == "gone"
    with pytest.raises(AdapterError, match="cannot name a file"):
        await client.put_file("../x", b"")


# -- failures ------------------------------------------------------------------------------------------------------


async def test_each_way_of_not_getting_in_has_a_code_and_a_sentence(
    shared: PlaceProcess, papers: Papers
) -> None:
    ways: list[tuple[str, dict[str, Any]]] = [
        ("refused", {"token": Secret("wrong")}),
        ("refused", {"ssl_context": papers.context()}),
        # The place hangs up in the middle of the handshake, without a word that gets through.
        ("unreachable", {"ssl_context": papers.context(trustme.CA())}),
        ("untrusted", {"server_hostname": "oj-job-2"}),
        ("untrusted", {"ssl_context": None}),
        ("unreachable", {"url": f"https://127.0.0.1:{free_port()}"}),
        ("unreachable", {"url": f"http://127.0.0.1:{shared.port}"}),
    ]
    async with asyncio.timeout(PATIENCE):
        for code, more in ways:
            async with shared.client(**more) as stranger:
                with pytest.raises(AdapterError) as failed:
                    await stranger.runs()
                assert failed.value.code == code, (more, failed.value.message)
                assert failed.value.message.startswith("ask the place oj-job-")
                assert "\n" not in failed.value.message


async def test_health_needs_no_token(shared: PlaceProcess, papers: Papers) -> None:
    async with shared.client(token=Secret(""), ssl_context=papers.context()) as probe:
        health = await probe.health()
    assert (health.status, bool(health.boot)) == ("running", True)


async def test_a_place_on_this_machine_needs_no_tls() -> None:
    port = free_port()
    options = ("--place", "--port", str(port))
    with sidecar((), *options, env={"OJ_SIDECAR_TOKEN": "t"}) as made:
        client = PlaceClient(f"http://127.0.0.1:{port}", Secret("t"))
        run = await client.start("env", "env", env={}, cwd=str(made.folder))
        while (await client.wait(run.run_id)).state is RunState.RUNNING:
            pass
        assert b"OJ_SIDECAR_TOKEN" not in (await client.output(run.run_id, 0)).data
        await client.close()
        stranger = PlaceClient(f"http://127.0.0.1:{port}", Secret(""))
        with pytest.raises(AdapterError) as refused:
            await stranger.runs()
        assert refused.value.code == "refused"
        await stranger.close()


async def test_a_place_that_moved_is_found_at_its_new_address(
    shared: PlaceProcess, papers: Papers
) -> None:
    async with asyncio.timeout(PATIENCE), shared.client() as client:
        old = (await client.health()).boot
        with place(papers) as other:
            client.move(f"https://127.0.0.1:{other.port}")
            assert (await client.health()).boot != old


async def test_a_place_that_ends_says_so_and_then_nothing(papers: Papers) -> None:
    with place(papers, env={"OJ_SIDECAR_SHUTDOWN_TIMEOUT_MS": "60000"}) as made:
        async with asyncio.timeout(PATIENCE), made.client() as client:
            script = (
                "trap 'echo told' TERM; echo up; until read -r _ < go; do sleep 0.05 || true; done"
            )
            await client.start("slow", script, env={})
            await client.output("slow", 0)
            await client.shutdown()
            await client.output("slow", 3)
            with pytest.raises(AdapterError) as stopping:
                await client.start("late", "true", env={})
            assert stopping.value.code == "stopping"
            (made.folder / "go").write_text("\n")
            assert await asyncio.to_thread(made.wait) == 0
            with pytest.raises(AdapterError) as gone:
                await client.health()
            assert gone.value.code == "unreachable"


# -- agents --------------------------------------------------------------------------------------------------------

TURNS = [
    {"when": "begin", "do": [{"bash": "echo hello"}, {"say": "Hello."}]},
    {"when": "leave", "do": [{"say": "Bye."}, {"exit": 3}]},
]


def prepare(work: Path) -> None:
    work.mkdir()
    plan = {"turns": TURNS, "keys": str(work / "keys")}
    (work / "agent-scenario.json").write_text(json.dumps(plan))
    (work / "keys").touch()


async def start_agent(made: PlaceProcess, client: PlaceClient, name: str, work: Path) -> Session:
    """Start an agent in the place as the daemon would."""
    prepare(work)
    await client.put_file(f"agents/{name}/config.json", b'{"prompt": "begin"}')
    script = agent_script(made.files, name, work)
    run = await client.start(f"job/{name}", script, env=FAST)
    assert run.created
    session = Session(AgentId(name), client.agent(name), lambda: made.process.poll() is None)
    while True:
        try:
            await session.ask("GET", "health")
        except AdapterError as error:
            view = await client.view(f"job/{name}")
            assert view.state is RunState.RUNNING, (await client.output(f"job/{name}", 0)).data
            if error.code not in {"404", "502"}:  # not yet there, not yet listening
                raise
            await asyncio.sleep(0.05)
        else:
            return session


async def until_idle(session: Session, facts: list[AgentEvent], count: int) -> asyncio.Future[Any]:
    """Follow until the agent has been idle so many times."""
    idle = asyncio.Event()

    def report(fact: AgentEvent) -> None:
        facts.append(fact)
        seen = {
            each.seq for each in facts if isinstance(each, AgentReported) and each.state == "idle"
        }
        if len(seen) >= count:
            idle.set()

    following = asyncio.ensure_future(session.follow(0, report))
    await idle.wait()
    return following


async def test_an_agent_in_a_place_is_followed_nudged_entered_and_ended(
    shared: PlaceProcess, client: PlaceClient, tmp_path: Path
) -> None:
    assert client.session_url("agt-1") == f"https://oj-job-1:{shared.port}/agents/agt-1"
    session = await start_agent(shared, client, "agt-1", tmp_path / "work")
    facts: list[AgentEvent] = []
    following = await until_idle(session, facts, 1)
    async with session.terminal(90, 30) as terminal:
        screen = b""
        while b"Hello." not in screen:
            message = await terminal.receive()
            assert isinstance(message.data, bytes | str)
            screen += message.data if isinstance(message.data, bytes) else b""
        await terminal.send_bytes(b"typed")
        while b"typed" not in (tmp_path / "work/keys").read_bytes():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)
        await terminal.send_bytes(b"\x15")  # and away with it
    assert (await session.screen())["cols"] == 90
    assert await session.nudge(1, "please leave") == ""
    assert await following == AgentExited(agent_id=AgentId("agt-1"), exit_code=3)
    remains = await session.remains()
    assert remains.screen is not None
    assert "Bye." in "\n".join(remains.screen["lines"])
    assert remains.transcript is not None
    await session.ask("POST", "shutdown", {})
    while (run := await client.wait("job/agt-1")).state is RunState.RUNNING:
        pass
    assert run.status == 3
    assert not (shared.files / "agents/agt-1/sock").exists()
    with pytest.raises(AdapterError) as gone:
        await session.ask("GET", "health")
    assert (gone.value.code, gone.value.message) == (
        "404",
        "there is no agent 'agt-1' in this place",
    )


async def test_two_agents_share_a_place_and_go_with_it(papers: Papers, tmp_path: Path) -> None:
    with place(papers, env={"OJ_SIDECAR_SHUTDOWN_TIMEOUT_MS": "5000"}) as made:
        async with asyncio.timeout(PATIENCE), made.client() as client:
            names = ("agt-a", "agt-b")
            sessions = await asyncio.gather(
                *(start_agent(made, client, name, tmp_path / name) for name in names)
            )
            facts: tuple[list[AgentEvent], list[AgentEvent]] = ([], [])
            following = await asyncio.gather(
                *(until_idle(each, heard, 1) for each, heard in zip(sessions, facts, strict=True))
            )
            assert await sessions[1].nudge(1, "only for you") == ""
            assert b"only for you" in (tmp_path / "agt-b/keys").read_bytes()
            assert b"only for you" not in (tmp_path / "agt-a/keys").read_bytes()
            made.term()
            assert await asyncio.to_thread(made.wait) == 0
            for each in following:
                assert isinstance(await each, AgentExited)
        assert made.family() == []
