"""What changed, for whoever watches.

Rule: a subscription is one question asked again and again (`Watch`), so nothing is kept for whoever asks it: no queue that a
slow client could fill, and nothing to clean up after one that vanished. An answer holds the newest state of what changed after
the record that the client has seen, however often it changed; a client that missed more than a snapshot holds gets a snapshot.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from oj_daemon.access import Principal
from oj_daemon.build import identity
from oj_daemon.core import views
from oj_daemon.core.events import AnyEvent, JobDeleted, Record
from oj_daemon.core.state import Job
from oj_daemon.engine import Engine, Told
from oj_daemon.errors import Rejected
from oj_daemon.executor import Executor
from oj_daemon.store.logs import read_log
from oj_daemon.store.segment import read_segments, segment_names
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import AgentId, JobId, Noun
from oj_daemon.wire.replies import LogChunk

LONGEST_WAIT_MS: Final = 60_000
PAGE: Final = 1_000
"""Facts in one answer."""


class _Facts(NamedTuple):
    """A piece of the log."""

    lines: tuple[replies.StoryLine, ...] = ()
    through: int | None = None
    """The last record that is in it, or was left out because it is nobody's business; None when no facts were asked for."""
    is_gapless: bool = True


class News:
    """Answers Watch, and shows what dispatch shows alike."""

    def __init__(self, engine: Engine, executor: Executor, wal_dir: Path) -> None:
        self._engine = engine
        self._executor = executor
        self._wal_dir = wal_dir
        self._started = time.monotonic()

    # What is shown

    def detail(self, job: Job) -> replies.JobDetail:
        """All about one job, with what its agents did and spent."""
        detail = views.job_detail(
            self._engine.state,
            job,
            log_path=str(self._executor.logs.path(job.id)),
            seq=self._engine.seq,
        )
        if not detail.agents:
            return detail
        return msgspec.structs.replace(detail, agents=tuple(map(self.figured, detail.agents)))

    def figured(self, view: replies.AgentView) -> replies.AgentView:
        """The view with what the agent did and spent, which is no part of the state."""
        agent_id = AgentId(view.id)
        counters = self._executor.book.counters(agent_id)
        return msgspec.structs.replace(
            view,
            files_read=counters.files_read,
            files_written=counters.files_written,
            commands=counters.commands,
            usage=usage_view(self._executor.usage(agent_id)),
        )

    def overview(self, project: str | None) -> replies.Overview:
        """What `oj status` shows."""
        engine = self._engine
        problem = self._executor.usage_log.problem
        return views.overview(
            engine.state,
            project=project,
            now=engine.now(),
            uptime_secs=int(time.monotonic() - self._started),
            version=identity(),
            warnings=(*engine.warnings, problem) if problem else engine.warnings,
        )

    # What changed

    async def wait(self, request: requests.Watch, who: Principal) -> replies.Changes:
        """The news, as soon as there are any; without any when the time is up."""
        deadline = time.monotonic() + min(max(request.wait_ms, 0), LONGEST_WAIT_MS) / 1000
        request = msgspec.structs.replace(request, limit=max(0, request.limit))
        while True:
            later = self._engine.news()  # also of what happens while the answer is made
            changes = await self._changes(request, who)
            left = deadline - time.monotonic()
            if _is_news(changes) or left <= 0:
                return changes
            # What was looked through is not looked through again.
            request = msgspec.structs.replace(request, since=changes.seq, epoch=changes.epoch)
            if Noun.FACT in request.nouns and changes.seq < self._engine.durable_seq:
                continue  # that was a page of other people's facts
            try:
                async with asyncio.timeout(left):
                    await later
            except TimeoutError:
                pass

    async def _changes(self, request: requests.Watch, who: Principal) -> replies.Changes:
        engine = self._engine
        seq = engine.seq
        since = request.since if self._is_known(request) else None
        changes = self._of_jobs(request, since)
        details, missing = self._details(request, since, who)
        facts = await self._facts(request, since)
        if facts.through is not None:
            seq = min(
                seq, facts.through
            )  # a change may be told once more with its fact; never a fact too few
        # The logs are read after that: a job that is told to have ended has its last lines in its log.
        await engine.durable()
        return msgspec.structs.replace(
            changes,
            seq=seq,
            epoch=engine.epoch,
            is_snapshot=changes.is_snapshot or since is None,
            details=details,
            missing=missing,
            facts=facts.lines,
            is_gapless=facts.is_gapless,
            logs=await self._logs(request.logs),
        )

    def _is_known(self, request: requests.Watch) -> bool:
        """Whether `since` counts this daemon's records."""
        if request.since > self._engine.seq:
            return False
        return request.epoch == self._engine.epoch or (not request.epoch and request.since > 0)

    def _of_jobs(self, request: requests.Watch, since: int | None) -> replies.Changes:
        """Everything but facts and what was asked for by id."""
        engine, state = self._engine, self._engine.state
        project = request.project
        wants_jobs, wants_overview = Noun.JOB in request.nouns, Noun.OVERVIEW in request.nouns
        if not wants_jobs and not wants_overview:
            return replies.Changes(seq=0)
        gone = engine.gone_after(since, project) if since is not None else None
        changed = []
        if since is not None:
            found = (state.jobs[job_id] for job_id in engine.changed_after(since))
            mine = (job for job in found if project in (None, job.project))
            changed = list(islice(mine, request.limit + 1))
        is_snapshot = gone is None or len(changed) > request.limit
        overview = None
        if wants_overview and (is_snapshot or changed or gone):
            overview = self.overview(project)
        if not wants_jobs:
            return replies.Changes(seq=0, overview=overview)
        if is_snapshot:
            changed = list(self._all(project, request.limit))
        return replies.Changes(
            seq=0,
            is_snapshot=is_snapshot,
            jobs=tuple(views.job_summary(state, job) for job in changed),
            agents=tuple(self._agents(changed, request.limit)),
            decisions=tuple(
                views.decision_view(state, decision)
                for job in changed
                for decision in state.undecided_of(job.id)
            ),
            workspaces=tuple(
                views.workspace_view(state, state.workspaces[job.workspace])
                for job in changed
                if job.workspace in state.workspaces
            ),
            gone=() if is_snapshot else tuple(gone or ()),
            overview=overview,
        )

    def _all(self, project: str | None, limit: int) -> Iterator[Job]:
        """Jobs that have not ended, and the newest of the others."""
        state = self._engine.state
        ids = state.jobs if project is None else state.project_jobs.get(project, {})
        yield from (state.jobs[job_id] for job_id in reversed(state.live) if job_id in ids)
        ended = (job_id for job_id in reversed(ids) if job_id not in state.live)
        yield from (state.jobs[job_id] for job_id in islice(ended, limit))

    def _agents(self, jobs: Iterable[Job], limit: int) -> Iterator[replies.AgentView]:
        """The agents of these jobs; of those that have ended only so many."""
        state = self._engine.state
        for job in jobs:
            mine = state.job_agents.get(job.id, ())
            if job.id not in state.live:
                limit -= len(mine)
                if limit < 0:
                    continue
            for agent_id in mine:
                yield self.figured(views.agent_view(state, state.agents[agent_id]))

    def _details(
        self, request: requests.Watch, since: int | None, who: Principal
    ) -> tuple[tuple[replies.JobDetail, ...], tuple[str, ...]]:
        changed: list[replies.JobDetail] = []
        missing: list[str] = []
        for ref in request.ids:
            try:
                job = self._engine.state.find_job(ref, project=who.reach)
            except Rejected as error:
                if error.code == "ambiguous":
                    raise
                missing.append(ref)
                continue
            if since is None or self._engine.changed_since(job.id, since):
                changed.append(self.detail(job))
        return tuple(changed), tuple(missing)

    # Logs

    async def _logs(self, wanted: dict[str, int]) -> dict[str, LogChunk]:
        found = {}
        for owner_id, offset in wanted.items():
            path = self._path(owner_id)
            chunk = await _chunk(path, offset) if path is not None else None
            if chunk is not None:
                found[owner_id] = chunk
        return found

    def _path(self, owner_id: str) -> Path | None:
        """The log of a job or an agent."""
        if owner_id in self._engine.state.jobs:
            return self._executor.logs.path(JobId(owner_id))
        if owner_id in self._engine.state.agents:
            return self._executor.book.path(AgentId(owner_id))
        return None

    # Facts

    async def _facts(self, request: requests.Watch, since: int | None) -> _Facts:
        """Facts after that record, oldest first, of at most a page of records; the newest ones when `since` is 0."""
        if Noun.FACT not in request.nouns:
            return _Facts()
        engine = self._engine
        await engine.durable()
        durable, recent = engine.durable_seq, engine.recent
        if since is None:
            # Of one project the last ones may be the log's first.
            records = request.limit if request.project is None else None
            found = await asyncio.to_thread(_newest, self._wal_dir, durable, records)
        elif since >= durable or (recent and recent[0].seq <= since + 1):
            found = [told for told in recent if since < told.seq <= durable][:PAGE]
        else:
            found = await asyncio.to_thread(_oldest, self._wal_dir, since, durable)
        lines = [
            line
            for told in found
            for fact in told.facts
            for line in (story_line(told, fact, engine.job_of(fact) or ""),)
            if request.project is None or self._is_of(fact, line.job_id, request.project)
        ]
        if since is None:
            return _Facts(tuple(lines[max(0, len(lines) - request.limit) :]), through=durable)
        return _Facts(
            tuple(lines),
            through=found[-1].seq if found else durable,
            is_gapless=since >= durable or (bool(found) and found[0].seq == since + 1),
        )

    def _is_of(self, fact: AnyEvent, job_id: str, project: str) -> bool:
        if isinstance(fact, JobDeleted):
            return fact.project == project
        job = self._engine.state.jobs.get(JobId(job_id))
        return job is not None and job.project == project

    async def story(self, job_id: JobId, *, is_limited: bool) -> replies.Story:
        """What the log still holds about a job. Who is limited hears only what is surely about it."""
        return await asyncio.to_thread(_story, self._wal_dir, job_id, is_limited=is_limited)


def usage_view(figures: Mapping[str, Any] | None) -> replies.UsageView | None:
    """What a sidecar tells about usage; None when nothing was asked of a model yet, as far as is known."""
    if not figures or not figures.get("request_count"):
        return None
    return msgspec.convert(figures, replies.UsageView)


def story_line(told: Told, fact: AnyEvent, job_id: str) -> replies.StoryLine:
    """One fact, as it is told."""
    data = msgspec.to_builtins(fact)
    tag = data.pop("type")
    return replies.StoryLine(
        seq=told.seq, at_ms=told.at, cause=told.cause, fact=tag, data=data, job_id=job_id
    )


def _is_news(changes: replies.Changes) -> bool:
    return bool(
        changes.is_snapshot
        or changes.jobs
        or changes.gone
        or changes.overview
        or changes.facts
        or changes.details
        or changes.missing
        or changes.logs
    )


async def _chunk(path: Path, offset: int) -> LogChunk | None:
    """New text of a log from `offset` on (-1: nothing yet, only where its end is)."""
    size = _size(path)
    if offset == size:
        return None
    if offset < 0:
        return LogChunk(content="", offset=size)
    piece = await asyncio.to_thread(read_log, path, offset=offset)
    if not piece.content and not piece.was_restarted:
        return None
    return LogChunk(content=piece.content, offset=piece.offset, restarted=piece.was_restarted)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _records(folder: Path, needle: bytes = b"") -> Iterator[Told]:
    """Every record that the log still holds, as far as its text contains `needle`; reads every segment."""
    decode = msgspec.json.Decoder(Record).decode
    for segment in read_segments(folder, segment_names(folder)):
        if segment.is_void:
            continue
        with segment.path.open("rb") as file:
            offset = 0
            for text in file:
                offset += len(text)
                if segment.cut is not None and offset > segment.cut:
                    break
                if needle not in text:
                    continue
                seq, _, payload = text[9:].partition(b" ")
                if not seq.isdigit():
                    continue
                try:
                    record = decode(payload)
                except msgspec.MsgspecError:  # the last line, being written right now
                    continue
                yield Told(int(seq), record.at, record.cause, list(record.facts))


def _oldest(folder: Path, since: int, durable: int) -> list[Told]:
    """The first records after that one, up to a page of them."""
    later = (told for told in _records(folder) if since < told.seq <= durable)
    return list(islice(later, PAGE))


def _newest(folder: Path, durable: int, limit: int | None) -> list[Told]:
    """The last records: as many as facts are wanted, for each has one at least; None: all."""
    return list(deque((told for told in _records(folder) if told.seq <= durable), maxlen=limit))


def _story(folder: Path, job_id: JobId, *, is_limited: bool) -> replies.Story:
    needle = job_id.encode()
    lines = []
    for told in _records(folder, needle):
        for fact in told.facts:
            line = story_line(told, fact, job_id)
            if is_limited and line.data.get("job_id") != job_id:
                continue
            if needle in msgspec.json.encode(line.data):
                lines.append(line)
    return replies.Story(
        lines=tuple(lines), complete=any(line.fact == "job:created" for line in lines)
    )
