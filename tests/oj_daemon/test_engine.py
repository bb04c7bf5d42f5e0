"""The engine: nothing is answered and nothing leaves before it is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from oj_daemon import engine as engine_module
from oj_daemon.core import effects, events
from oj_daemon.core.effects import AnyEffect
from oj_daemon.core.state import Policy, Resolved, State
from oj_daemon.engine import Engine
from oj_daemon.errors import StoreError
from oj_daemon.runbook.model import Source, SourceKind, content_hash
from oj_daemon.store.wal import Wal
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import JobId, JobStatus
from tests.support.scenario import ROOT, job, runbook, step

BOOK = runbook(job(step("a", on_done=["b"]), step("b")))
RUN = requests.RunCommand(project="p", project_root=ROOT, invoke_dir=ROOT, command="build")


def resolved() -> Resolved:
    return Resolved(runbook=BOOK, hash=content_hash(BOOK), command=BOOK.commands["build"])


class SlowLog:
    """A log whose disk is as slow as the test wants."""

    epoch = 1

    def __init__(self) -> None:
        self.seq = self.durable = self.commits = 0

    def append(self, payload: bytes) -> int:
        assert b"\n" not in payload
        self.seq += 1
        return self.seq

    def commit(self) -> bool:
        self.commits += 1
        return self.durable == self.seq


def slow_engine(log: SlowLog) -> tuple[Engine, list[tuple[AnyEffect, int]]]:
    engine = Engine(State(), cast("Wal", log), Path("/nowhere"), Policy())
    left: list[tuple[AnyEffect, int]] = []
    engine.on_effect = lambda effect, seq: left.append((effect, seq))
    return engine, left


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(limited())


async def settle() -> None:
    """Let everything that can happen now happen."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_reply_and_orders_wait_for_the_disk_and_keep_the_order_of_the_records() -> None:
    async def scenario() -> None:
        log = SlowLog()
        engine, left = slow_engine(log)
        first = asyncio.ensure_future(engine.submit(RUN, resolved()))
        second = asyncio.ensure_future(engine.submit(RUN, resolved()))
        await settle()
        assert (log.seq, log.commits) == (2, 1), "two requests of one moment share one sync"
        assert (left, first.done(), second.done()) == ([], False, False)
        log.durable = 1
        engine._release(1)
        await settle()
        assert (first.done(), second.done()) == (True, False)
        assert [seq for _, seq in left] == [1]
        log.durable = 2
        engine._release(2)
        await second
        assert [type(effect) for effect, _ in left] == [effects.StartStep, effects.StartStep]

    run(scenario)


def test_a_request_is_answered_before_the_world_is_told_and_a_question_after_that() -> None:
    async def scenario() -> None:
        log = SlowLog()
        engine, _ = slow_engine(log)
        order: list[str] = []
        engine.on_facts = lambda _facts, _at: order.append("told")

        async def ask() -> None:
            await engine.submit(RUN, resolved())
            order.append("answered")

        async def question() -> None:
            await engine.durable()
            order.append("shown")

        both = [asyncio.ensure_future(ask())]
        await asyncio.sleep(0)
        both.append(asyncio.ensure_future(question()))
        await settle()
        log.durable = 1
        engine._release(1)
        await asyncio.gather(*both)
        assert order == ["answered", "told", "shown"]

    run(scenario)


def test_a_request_that_changes_nothing_still_waits_for_what_it_has_seen() -> None:
    async def scenario() -> None:
        log = SlowLog()
        engine, _ = slow_engine(log)
        started = asyncio.ensure_future(engine.submit(RUN, resolved()))
        await settle()
        job_id = next(iter(engine.state.jobs))
        cancel = requests.JobCancel(ids=(job_id,))
        answers = [asyncio.ensure_future(engine.submit(cancel)) for _ in range(2)]
        await settle()
        assert not any(answer.done() for answer in answers)
        log.durable = log.seq
        engine._release(log.seq)
        await settle()
        assert started.done()
        assert all(answer.done() for answer in answers)

    run(scenario)


@pytest.mark.parametrize("moment", ["before the request", "before the disk", "before the orders"])
def test_when_its_tenure_is_over_nothing_is_answered_and_nothing_leaves(moment: str) -> None:
    """A process that was stopped goes on in the middle of anything."""

    async def scenario() -> None:
        log = SlowLog()
        engine, left = slow_engine(log)
        over: list[str] = []

        def guard() -> None:
            if over:
                raise StoreError("somebody else acts now", code="replaced")

        def told(*_: object) -> None:
            if moment == "before the orders":
                over.append(moment)

        engine.guard = guard
        engine.on_facts = told
        over += [moment] * (moment == "before the request")
        asked = asyncio.ensure_future(engine.submit(RUN, resolved()))
        await settle()
        over += [moment] * (moment == "before the disk")
        log.durable = log.seq
        engine._release(log.seq)
        await settle()
        assert left == []
        with pytest.raises(StoreError, match="somebody else acts now"):
            await engine.broken
        if moment == "before the orders":
            assert isinstance(await asked, replies.JobStarted), "it is in the log by then"
        else:
            with pytest.raises(StoreError) as refused:
                await asked
            assert refused.value.code == "unavailable"
        over.clear()
        with pytest.raises(StoreError):
            await engine.submit(RUN, resolved())
        engine._release(log.seq)
        await settle()
        assert left == [], "once over, for good"

    run(scenario)


def test_a_daemon_without_a_lock_finds_out_that_it_was_replaced_while_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "FENCE_SECONDS", 0.01)

    async def scenario() -> None:
        first = await Engine.open(tmp_path, Policy())
        await first.submit(RUN, resolved())
        watching = asyncio.ensure_future(first.keep_watch())
        second = await Engine.open(tmp_path, Policy())
        assert len(second.state.jobs) == 1
        await watching
        with pytest.raises(StoreError, match="belongs to a newer daemon"):
            await first.broken
        with pytest.raises(StoreError):
            await first.submit(RUN, resolved())
        await asyncio.to_thread(first._wal.close)
        await second.close()

    run(scenario)


def test_what_a_replaced_daemon_still_wrote_is_reported_by_the_one_that_replaced_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "FENCE_SECONDS", 0.01)

    async def scenario() -> None:
        first = await Engine.open(tmp_path, Policy())
        left: list[AnyEffect] = []
        first.on_effect = lambda effect, _: left.append(effect)
        second = await Engine.open(tmp_path, Policy())
        watching = asyncio.ensure_future(second.keep_watch())
        with pytest.raises(StoreError, match="whether this request was recorded"):
            await first.submit(RUN, resolved())
        while not second.warnings:  # noqa: ASYNC110 - bounded by `run`
            await asyncio.sleep(0.01)
        (warning,) = second.warnings
        assert warning.startswith(f"1 records in {tmp_path / 'wal' / '00000001-000001.jsonl'} from")
        assert (left, second.state.jobs) == ([], {})
        watching.cancel()
        await asyncio.to_thread(first._wal.close)
        await second.close()

    run(scenario)


def test_when_the_log_fails_nothing_is_answered_and_nothing_leaves() -> None:
    async def scenario() -> None:
        log = SlowLog()
        engine, left = slow_engine(log)
        waiting = asyncio.ensure_future(engine.submit(RUN, resolved()))
        await settle()
        engine.fail(StoreError("write to the log: no space left on device"))
        with pytest.raises(StoreError, match=r"no space left.*whether this request was recorded"):
            await waiting
        engine._release(1)
        assert left == []
        with pytest.raises(StoreError, match="can no longer write"):
            await engine.submit(RUN, resolved())
        with pytest.raises(StoreError, match="no space"):
            await engine.broken

    run(scenario)


def test_whoever_watches_a_job_hears_what_its_place_waits_for() -> None:
    async def scenario() -> None:
        log = SlowLog()
        engine, _ = slow_engine(log)
        engine.policy = Policy(runtime="kubernetes")
        book = runbook(job(step("a"), source=Source(kind=SourceKind.FOLDER)))
        wanted = Resolved(runbook=book, hash=content_hash(book), command=book.commands["build"])
        asking = asyncio.ensure_future(engine.submit(RUN, wanted))
        await settle()
        (job_id,), (place,) = engine.state.jobs, engine.state.workspaces
        before = log.seq
        assert not engine.changed_since(job_id, before)
        for fact in (
            events.WorkspaceWaits(workspace_id=place, reason="no node"),
            events.WorkspaceReady(workspace_id=place, route={"pod": "oj-x"}),
            events.WorkspaceMoved(workspace_id=place, route={"pod": "oj-y"}),
        ):
            engine.report(fact, "test")
            assert engine.changed_since(job_id, before), fact
            before = log.seq
        log.durable = log.seq
        engine._release(log.seq)
        await asking

    run(scenario)


def test_the_next_daemon_reads_the_same_state_with_and_without_a_snapshot(tmp_path: Path) -> None:
    async def first(snapshot: bool) -> State:
        engine = await Engine.open(tmp_path, Policy())
        answer = await engine.submit(RUN, resolved())
        assert isinstance(answer, replies.JobStarted)
        job_id = JobId(answer.job_id)
        engine.report(events.StepExited(job_id=job_id, run=1, exit_code=0), "test")
        if snapshot:
            await engine.close()
        else:
            await engine.settle()
            engine._wal.close()
        return engine.state

    async def again() -> tuple[State, list[AnyEffect]]:
        engine = await Engine.open(tmp_path, Policy())
        left: list[AnyEffect] = []
        engine.on_effect = lambda effect, _: left.append(effect)
        engine.recover()
        await settle()
        engine._wal.close()
        return engine.state, left

    async def scenario() -> None:
        for count, snapshot in enumerate((False, True, False), 1):
            live = await first(snapshot)
            state, left = await again()
            assert state.dump() == live.dump()
            assert [effect.step for effect in left if isinstance(effect, effects.StartStep)] == [
                "b"
            ] * count
            assert {each.status for each in state.jobs.values()} == {JobStatus.RUNNING}

    run(scenario)


def test_a_record_that_cannot_be_applied_refuses_the_start_and_names_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        wal = Wal.open(tmp_path / "wal")
        assert not list(wal.replay())
        wal.start(lambda _: None, lambda _: None)
        wal.append(b'{"at":1,"cause":"x","facts":[{"type":"job:deleted","job_id":"job-1"}]}')
        wal.close()
        with pytest.raises(StoreError, match="record 1 of the log cannot be applied"):
            await Engine.open(tmp_path, Policy())

    run(scenario)
