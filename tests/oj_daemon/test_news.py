"""What whoever watches is told: real steps, a real log, no listener."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from oj_daemon import log
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import JobStatus, Noun
from tests.oj_daemon.test_works import Daemon, running, with_daemon

JOB = (Noun.JOB,)
FACT = (Noun.FACT,)


async def watch(
    daemon: Daemon, after: replies.Changes | None = None, **fields: Any
) -> replies.Changes:
    """One answer; what came with the one before it is not told again."""
    if after is not None:
        fields = {"since": after.seq, "epoch": after.epoch, **fields}
    return await daemon.ask(requests.Watch(**{"nouns": JOB, **fields}), replies.Changes)


async def done(daemon: Daemon, project: str = "shop") -> str:
    """A job that has ended."""
    place = daemon.folder / project
    place.mkdir(exist_ok=True)
    (place / "go").touch()
    job_id = await daemon.run(project)
    await daemon.until(job_id, JobStatus.DONE)
    return job_id


def ids(changes: replies.Changes) -> list[str]:
    return [job.id for job in changes.jobs]


def test_first_comes_all_there_is_and_then_what_changed(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        first = await done(daemon)
        snapshot = await watch(daemon)
        assert (ids(snapshot), snapshot.is_snapshot) == ([first], True)
        second = await done(daemon, "bank")
        changes = await watch(daemon, snapshot)
        assert (ids(changes), changes.is_snapshot) == ([second], False)
        assert changes.jobs[0].status is JobStatus.DONE
        assert [each.owner for each in changes.workspaces] == []

    with_daemon(folder, scenario)


def test_what_changed_often_is_told_once_and_newest(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        snapshot = await watch(daemon)
        job_id = await done(daemon)
        changes = await watch(daemon, snapshot)
        assert [(job.id, job.status) for job in changes.jobs] == [(job_id, JobStatus.DONE)]

    with_daemon(folder, scenario)


def test_who_has_heard_everything_waits_as_long_as_asked(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        await done(daemon)
        snapshot = await watch(daemon)
        quiet = await watch(daemon, snapshot, wait_ms=50)
        assert quiet == replies.Changes(seq=snapshot.seq, epoch=snapshot.epoch)

    with_daemon(folder, scenario)


@pytest.mark.parametrize("fields", [{"epoch": 99}, {"since": 1_000_000}])
def test_who_counts_by_another_daemon_begins_anew(folder: Path, fields: dict[str, int]) -> None:
    async def scenario(daemon: Daemon) -> None:
        job_id = await done(daemon)
        snapshot = await watch(daemon)
        again = await watch(daemon, snapshot, **fields, wait_ms=60_000)
        assert (ids(again), again.is_snapshot) == ([job_id], True)

    with_daemon(folder, scenario)


def test_who_missed_more_than_a_snapshot_holds_gets_a_snapshot(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        snapshot = await watch(daemon, limit=1)
        made = [await done(daemon) for _ in range(2)]
        changes = await watch(daemon, snapshot, limit=1)
        assert (ids(changes), changes.is_snapshot) == (made[-1:], True)

    with_daemon(folder, scenario)


def test_a_snapshot_holds_every_job_that_has_not_ended(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        running_, _, _ = await daemon.step()
        ended = [await done(daemon, "bank") for _ in range(3)]
        snapshot = await watch(daemon, limit=2)
        assert sorted(ids(snapshot)) == sorted([running_, *ended[1:]])
        (folder / "shop" / "go").touch()

    with_daemon(folder, scenario)


def test_pruned_jobs_are_told_as_gone_where_they_were_known(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        job_id = await done(daemon)
        snapshot = await watch(daemon)
        await daemon.ask(requests.JobPrune(all=True), replies.Pruned)
        assert (await watch(daemon, snapshot)).gone == (job_id,)
        assert (await watch(daemon, snapshot, project="shop")).gone == (job_id,)
        assert (await watch(daemon, snapshot, project="bank", wait_ms=0)).gone == ()

    with_daemon(folder, scenario)


def test_one_project_hears_that_a_job_of_its_own_was_pruned(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        job_id = await done(daemon)
        before = await watch(daemon, nouns=FACT)
        await daemon.ask(requests.JobPrune(all=True), replies.Pruned)
        mine = await watch(daemon, before, nouns=FACT, project="shop")
        assert ("job:deleted", job_id) in [(line.fact, line.job_id) for line in mine.facts]
        others = await watch(daemon, before, nouns=FACT, project="bank", wait_ms=0)
        assert others.facts == ()

    with_daemon(folder, scenario)


def test_a_project_alone_can_be_watched(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        mine = await done(daemon)
        snapshot = await watch(daemon, project="shop")
        assert ids(snapshot) == [mine]
        await done(daemon, "bank")
        assert ids(await watch(daemon, snapshot, project="shop", wait_ms=0)) == []

    with_daemon(folder, scenario)


def test_the_overview_comes_when_something_in_it_changed(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        first = await watch(daemon, nouns=(Noun.OVERVIEW,))
        assert first.overview is not None
        assert first.overview.projects == ()
        assert (await watch(daemon, first, nouns=(Noun.OVERVIEW,), wait_ms=0)).overview is None
        await daemon.step()
        then = await watch(daemon, first, nouns=(Noun.OVERVIEW,))
        assert then.overview is not None
        assert [each.project for each in then.overview.projects] == ["shop"]
        (folder / "shop" / "go").touch()

    with_daemon(folder, scenario)


def numbers(lines: tuple[replies.StoryLine, ...]) -> list[tuple[int, str]]:
    return [(line.seq, line.fact) for line in lines]


def test_every_fact_is_told_once_and_in_order(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        heard: list[tuple[int, str]] = []
        last = await watch(daemon, nouns=FACT)
        assert last.facts == ()
        job_id = await done(daemon)
        while last.seq < daemon.works.engine.seq:
            last = await watch(daemon, last, nouns=FACT)
            assert last.is_gapless
            others = {line.fact for line in last.facts if line.job_id != job_id}
            assert others <= {"project:seen", "runbook:loaded"}
            heard += numbers(last.facts)
        whole = await watch(daemon, nouns=FACT)
        assert heard == numbers(whole.facts)

    with_daemon(folder, scenario)


def test_the_newest_facts_are_told_first_of_all_as_many_as_are_wanted(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        await done(daemon)
        every = await watch(daemon, nouns=FACT)
        last = await watch(daemon, nouns=FACT, limit=2)
        assert numbers(last.facts) == numbers(every.facts)[-2:]

    with_daemon(folder, scenario)


@pytest.mark.parametrize("noun", [Noun.JOB, Noun.FACT])
def test_fewer_than_none_are_none(folder: Path, noun: Noun) -> None:
    async def scenario(daemon: Daemon) -> None:
        await done(daemon)
        told = await watch(daemon, nouns=(noun,), limit=-1)
        assert (told.jobs, told.facts, told.is_snapshot) == ((), (), True)

    with_daemon(folder, scenario)


@pytest.mark.parametrize("page", [1, 1000])
def test_facts_that_are_no_longer_in_memory_come_from_the_log(
    folder: Path, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(daemon: Daemon) -> None:
        await done(daemon)
        every = await watch(daemon, nouns=FACT)
        daemon.works.engine.recent.clear()
        heard: list[tuple[int, str]] = []
        last = replies.Changes(seq=1, epoch=every.epoch)
        while last.seq < every.seq:
            last = await watch(daemon, last, nouns=FACT)
            assert last.is_gapless
            heard += numbers(last.facts)
        assert heard == [each for each in numbers(every.facts) if each[0] > 1]

    monkeypatch.setattr("oj_daemon.news.PAGE", page)
    with_daemon(folder, scenario)


def test_a_gap_is_told_where_facts_have_left_the_log(folder: Path) -> None:
    async def scenario() -> None:
        async with running(folder) as daemon:
            for _ in range(3):
                await done(daemon)
                await daemon.works.engine.snapshot()
            daemon.works.engine.recent.clear()
            asked = replies.Changes(seq=1, epoch=daemon.works.engine.epoch)
            told = await watch(daemon, asked, nouns=FACT)
            assert not told.is_gapless
            assert (told.facts == ()) or told.facts[0].seq > 2

    asyncio.run(scenario())


def test_one_project_hears_its_own_facts_alone(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        mine = await done(daemon)
        await done(daemon, "bank")
        told = await watch(daemon, nouns=FACT, project="shop")
        assert {line.job_id for line in told.facts} == {mine}

    with_daemon(folder, scenario)


def test_the_newest_facts_of_one_project_are_looked_for_behind_those_of_others(
    folder: Path,
) -> None:
    async def scenario(daemon: Daemon) -> None:
        mine = await done(daemon)
        every = await watch(daemon, nouns=FACT, project="shop")
        await done(daemon, "bank")
        told = await watch(daemon, nouns=FACT, project="shop", limit=2)
        assert numbers(told.facts) == numbers(every.facts)[-2:]
        assert {line.job_id for line in told.facts} == {mine}

    with_daemon(folder, scenario)


def test_pages_of_other_projects_facts_do_not_hold_up_ones_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(daemon: Daemon) -> None:
        await done(daemon, "bank")
        mine = await done(daemon)
        daemon.works.engine.recent.clear()
        begun = replies.Changes(seq=1, epoch=daemon.works.engine.epoch)
        async with asyncio.timeout(20):
            told = await watch(daemon, begun, nouns=FACT, project="shop", wait_ms=60_000)
        assert told.facts[0].job_id == mine

    monkeypatch.setattr("oj_daemon.news.PAGE", 1)
    with_daemon(folder, scenario)


def test_what_happens_while_an_answer_is_made_is_told_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(daemon: Daemon) -> None:
        engine = daemon.works.engine
        snapshot = await watch(daemon)
        durable = engine.durable
        happened: list[str] = []

        async def slow() -> None:
            await durable()
            if not happened:
                happened.append("")  # before it asks for itself
                happened.append(await done(daemon))

        monkeypatch.setattr(engine, "durable", slow)
        async with asyncio.timeout(20):
            changes = await watch(daemon, snapshot, wait_ms=60_000)
        assert ids(changes) == happened[1:]

    with_daemon(folder, scenario)


def test_the_end_of_a_job_is_told_with_the_end_of_its_log(folder: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        job_id, _, _ = await daemon.step()
        last = await watch(daemon, nouns=(), ids=(job_id,), logs={job_id: 0})
        text = last.logs[job_id].content
        (folder / "shop" / "go").touch()
        while last.details == () or last.details[0].status is not JobStatus.DONE:
            offset = last.logs[job_id].offset if job_id in last.logs else len(text.encode())
            last = await watch(daemon, last, nouns=(), ids=(job_id,), logs={job_id: offset})
            text += last.logs[job_id].content if job_id in last.logs else ""
        assert "job completed" in text

    with_daemon(folder, scenario)


def test_the_daemons_own_log_can_be_read_from_where_one_was(folder: Path) -> None:
    log.kept.setFormatter(log.TextFormatter())

    async def scenario(daemon: Daemon) -> None:
        logging.getLogger().addHandler(log.kept)
        try:
            before = await daemon.ask(requests.DaemonLogs(), replies.Log)
            logging.getLogger("oj_daemon.test").warning("something happened")
            after = await daemon.ask(requests.DaemonLogs(offset=before.offset), replies.Log)
            assert "something happened" in after.content
            again = await daemon.ask(requests.DaemonLogs(offset=after.offset), replies.Log)
            assert "something happened" not in again.content
            last = await daemon.ask(requests.DaemonLogs(lines=1), replies.Log)
            assert last.content.count("\n") == 1
        finally:
            logging.getLogger().removeHandler(log.kept)

    with_daemon(folder, scenario)
