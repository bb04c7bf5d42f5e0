"""Everything behind the listener: engine, executor and dispatch, put together, started and ended in order.

Rule: orders of the last daemon's jobs leave before the first request is answered, so nobody sees a state that is not looked
after.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final, NamedTuple

from oj_daemon import processes
from oj_daemon.core.events import AnyEvent, JobFinished
from oj_daemon.core.narration import narrate
from oj_daemon.core.state import Policy
from oj_daemon.dispatch import Dispatch, jobs_active
from oj_daemon.engine import Engine
from oj_daemon.executor import Executor
from oj_daemon.settings import Settings
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import TERMINAL, JobId, JobStatus, StepStatus

logger = logging.getLogger(__name__)


KILLED: Final = "suspended because the daemon was stopped with --kill"


class Figures(NamedTuple):
    """What `oj daemon status` wants to know of the works."""

    jobs_active: int
    epoch: int
    seq: int
    warnings: tuple[str, ...] = ()


class Works:
    """One daemon's works; see `start`."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.executor = Executor(
            settings, report=engine.report, fail=engine.fail, grew=engine.touch, now=engine.now
        )
        self._dispatch = Dispatch(engine, self.executor, settings.state_dir)
        engine.on_effect = self.executor.deliver
        engine.on_facts = self._tell

    def _tell(self, facts: Iterable[AnyEvent], at: int) -> None:
        state = self.engine.state
        self.executor.narrate((line for fact in facts for line in narrate(state, fact)), at)
        for fact in facts:
            if isinstance(fact, JobFinished):
                self.executor.logs.close(fact.job_id)

    async def handle(self, request: requests.AnyRequest) -> replies.AnyReply:
        """Answer one request."""
        return await self._dispatch.handle(request)

    def figures(self) -> Figures:
        """How things are."""
        return Figures(
            jobs_active=jobs_active(self.engine),
            epoch=self.engine.epoch,
            seq=self.engine.seq,
            warnings=self.engine.warnings,
        )

    @property
    def broken(self) -> asyncio.Future[None]:
        """Gets the StoreError when nothing can be made durable any more; until then it is pending."""
        return self.engine.broken

    async def drain(self, *, kill: bool) -> None:
        """Let no further order leave; return when none is in flight. With `kill`, suspend what runs first."""
        if kill:
            # Again with each news: a job that is on its way to the step of its on_fail can be suspended only there.
            while live := self._unsuspended():
                await self.engine.submit(requests.JobSuspend(ids=live, reason=KILLED))
                if self._unsuspended():
                    await self.engine.news()
        await self.executor.idle()
        await self.engine.settle()
        await self.executor.stop()

    def _unsuspended(self) -> tuple[JobId, ...]:
        jobs = self.engine.state.jobs
        return tuple(id_ for id_ in self.engine.state.live if jobs[id_].status not in TERMINAL)

    async def close(self) -> None:
        """Write a snapshot and close the log."""
        await self.executor.stop()
        await self.engine.close()


async def start(settings: Settings, *, recover: bool = False) -> Works:
    """Open the log and pick up what runs; raises StoreError."""
    policy = Policy(
        workspaces_dir=str(settings.state_dir / "workspaces"), state_dir=settings.state_folder
    )
    # Before anything of a step is looked at: without it each step's end costs a look at every process of the machine.
    processes.become_subreaper()
    processes.raise_descriptor_limit()
    engine = await Engine.open(settings.state_dir, policy, recover=recover)
    works = Works(engine, settings)
    for warning in engine.warnings:
        logger.warning("%s", warning)
    active = [
        (job_id, run.run)
        for job_id in engine.state.live
        for run in engine.state.jobs[job_id].active
        if run.status is StepStatus.RUNNING
    ]
    evaluating = {
        job_id
        for job_id in engine.state.live
        if engine.state.jobs[job_id].evaluate
        and engine.state.jobs[job_id].status is JobStatus.PENDING
    }
    left = await works.executor.clear_leftovers(active, evaluating)
    if left:
        logger.warning("ended what was left of runs that are over: %s", ", ".join(left))
    for lost in works.executor.unknown_after_reboot(active):
        engine.report(lost, "restart of the machine")
    await engine.durable()
    works.executor.note_boot()
    engine.recover()
    works.executor.chore(engine.keep_snapshots())
    logger.info(
        "log read to record %d: %d jobs, %d of them live",
        engine.seq,
        len(engine.state.jobs),
        len(engine.state.live),
    )
    return works
