"""Dispatch: a question is answered from state, but never with what a crash could still undo."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from oj_daemon.core.state import Policy, Resolved, State
from oj_daemon.dispatch import Dispatch, _strays
from oj_daemon.engine import Engine
from oj_daemon.errors import StoreError
from oj_daemon.executor import Executor
from oj_daemon.runbook.model import content_hash
from oj_daemon.store.wal import Wal
from oj_daemon.wire import replies, requests
from tests.support.scenario import ROOT, job, runbook, step

BOOK = runbook(job(step("a")))
RUN = requests.RunCommand(project="p", project_root=ROOT, invoke_dir=ROOT, command="build")


class SlowLog:
    """A log whose disk is as slow as the test wants."""

    epoch = 1

    def __init__(self) -> None:
        self.seq = self.durable = 0

    def append(self, payload: bytes) -> int:
        assert payload
        self.seq += 1
        return self.seq

    def commit(self) -> bool:
        return self.durable == self.seq


def start() -> tuple[SlowLog, Engine, Dispatch, asyncio.Task[replies.AnyReply]]:
    log = SlowLog()
    engine = Engine(State(), cast("Wal", log), Path("/nowhere"), Policy())
    engine.on_facts = lambda _facts, _at: None
    engine.on_effect = lambda _effect, _seq: None
    dispatch = Dispatch(engine, cast("Executor", None), Path("/nowhere"))
    resolved = Resolved(runbook=BOOK, hash=content_hash(BOOK), command=BOOK.commands["build"])
    return log, engine, dispatch, asyncio.ensure_future(engine.submit(RUN, resolved))


def test_prune_takes_no_clone_that_is_being_made(tmp_path: Path) -> None:
    for name in ("wks-known", ".wks-known.0badcafe", "wks-stray", ".wks-stray.0badcafe"):
        (tmp_path / name).mkdir()
    _strays(tmp_path, {"wks-known"}, any_age=True, remove=True)
    assert {path.name for path in tmp_path.iterdir()} == {"wks-known", ".wks-known.0badcafe"}


async def settle() -> None:
    """Let everything that can happen now happen."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_question_is_answered_when_what_it_saw_is_on_disk() -> None:
    async def scenario() -> None:
        log, engine, dispatch, started = start()
        await settle()
        listed = asyncio.ensure_future(dispatch.handle(requests.JobList()))
        await settle()
        assert (listed.done(), started.done()) == (False, False)
        log.durable = log.seq
        engine._release(log.seq)
        reply = await listed
        assert isinstance(reply, replies.Jobs)
        assert reply.total == 1
        await started

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_question_to_a_daemon_that_cannot_write_any_more_is_refused() -> None:
    async def scenario() -> None:
        _, engine, dispatch, started = start()
        await settle()
        listed = asyncio.ensure_future(dispatch.handle(requests.JobList()))
        await settle()
        engine.fail(StoreError("no space left"))
        for reply in (await listed, await dispatch.handle(requests.JobList())):
            assert isinstance(reply, replies.Error)
            assert reply.code == "unavailable"
        await asyncio.gather(started, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_change_is_answered_when_it_is_on_disk_and_before_the_world_is_told() -> None:
    async def scenario() -> None:
        log, engine, dispatch, started = start()
        await settle()
        log.durable = log.seq
        engine._release(log.seq)
        job_id = next(iter(engine.state.jobs))
        await started
        told: list[str] = []
        engine.on_facts = lambda _facts, _at: told.append("told")

        async def cancel() -> replies.AnyReply:
            reply = await dispatch.handle(requests.JobCancel(ids=(job_id,)))
            told.append("answered")
            return reply

        cancelled = asyncio.ensure_future(cancel())
        await settle()
        assert not told
        log.durable = log.seq
        engine._release(log.seq)
        reply = await cancelled
        await settle()
        assert isinstance(reply, replies.JobsCancelled)
        assert told == ["answered", "told"]

    asyncio.run(asyncio.wait_for(scenario(), 20))
