"""Everything behind the listener: engine, executor and dispatch, put together, started and ended in order.

Rule: orders of the last daemon's jobs leave before the first request is answered, so nobody sees a state that is not looked
after.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from oj_daemon import access, attach, processes
from oj_daemon.access import OWNER, Principal
from oj_daemon.adapters import notify
from oj_daemon.attach import Upgrade
from oj_daemon.core.events import AnyEvent
from oj_daemon.core.narration import narrate
from oj_daemon.core.state import Policy, place_of, step_of
from oj_daemon.dispatch import Dispatch, jobs_active
from oj_daemon.engine import Engine
from oj_daemon.errors import AdapterError, OjError, Rejected
from oj_daemon.executor import Executor
from oj_daemon.news import usage_view
from oj_daemon.observer import Observer
from oj_daemon.readiness import Readiness
from oj_daemon.runbook.model import RunShell
from oj_daemon.settings import Settings
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import (
    TERMINAL,
    AgentId,
    AgentStatus,
    JobId,
    JobStatus,
    Severity,
    StepStatus,
    short_id,
)

if TYPE_CHECKING:
    from oj_daemon.adapters.kubernetes.runtime import KubernetesPlaces
    from oj_daemon.metrics import Metrics  # at run time only where there is an HTTP port

logger = logging.getLogger(__name__)


KILLED: Final = "suspended because the daemon was stopped with --kill"
ORPHANS_SECONDS: Final = 10.0
"""Period of collecting orphans, as the first process of a container."""


class Figures(NamedTuple):
    """What `oj daemon status` wants to know of the works."""

    jobs_active: int
    epoch: int
    seq: int
    warnings: tuple[str, ...] = ()
    notifications_waiting: int = 0


class Works:
    """One daemon's works; see `start`."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self._drain_steps = settings.drain_steps
        self.executor = Executor(
            settings, report=engine.report, fail=engine.fail, grew=engine.touch, now=engine.now
        )
        self._dispatch = Dispatch(engine, self.executor, settings.state_dir)
        self.executor.shell.guard = engine.fence
        engine.on_effect = self.executor.deliver
        engine.on_facts = self._tell
        self._metrics: Metrics | None = None
        self.places: KubernetesPlaces | None = None
        self._warnings: tuple[str, ...] = ()

    async def use_places(self, settings: Settings, observer: Observer) -> None:
        """Run new jobs in places of their own; OjError when that was asked for by name and cannot be."""
        from oj_daemon.places import open_places  # noqa: PLC0415 - the client of a cluster, 0.5 s

        is_named = any(
            choice.name == "runtime" and choice.reason == "OJ_RUNTIME"
            for choice in settings.reasons
        )
        try:
            places = await open_places(settings, self.executor.tokens, observer)
        except AdapterError as error:
            if is_named:
                raise OjError(
                    f"OJ_RUNTIME=kubernetes: {error.message}", code="unavailable", hint=error.hint
                ) from error
            self._warnings = (f"everything runs locally: {error.message}",)
            logger.warning("%s", self._warnings[0])
            return
        places.known = self._owners
        places.on_loss = observer.note_lost
        observer.read_pods(places.cache.tally, lambda: places.cache.age)
        self.executor.use(places)
        self.places = places
        self.engine.policy = msgspec.structs.replace(self.engine.policy, runtime=places.name)
        self.executor.chore(places.run())

    def tell(self, readiness: Readiness) -> None:
        """Keep it told whether the cluster can be asked."""
        if self.places is not None:
            cache = self.places.cache
            readiness.set("pods", cache.is_fresh, "" if cache.is_fresh else "not listed yet")
            cache.on_fresh = partial(readiness.set, "pods")

    def has_place(self, job_id: JobId) -> bool:
        """Whether the job works somewhere else than on this machine."""
        state = self.engine.state
        return place_of(state, state.jobs[job_id]) is not None

    def _owners(self) -> set[str]:
        """Everybody who has a place of their own."""
        state = self.engine.state
        return {
            *(each.id for each in state.workspaces.values() if each.runtime),
            *(agent_id for agent_id in state.live_agents if state.agents[agent_id].is_ordered),
        }

    def count(self, metrics: Metrics, recovery_seconds: float) -> None:
        """Let everything that happens be counted."""
        self._metrics = metrics
        metrics.watch(self.engine.state, self.engine, self.engine.now, recovery_seconds)
        self.engine.watch_commits(metrics.note_commit)
        self.executor.notices.note_notified = metrics.note_notified
        self.executor.on_usage = self._count_usage

    def _count_usage(self, agent_id: AgentId, figures: Mapping[str, Any]) -> None:
        agent = self.engine.state.agents.get(agent_id)
        if self._metrics is not None and agent is not None:
            self._metrics.note_usage(agent_id, agent.name, figures)

    def _tell(self, facts: Iterable[AnyEvent], at: int) -> None:
        state = self.engine.state
        self.executor.narrate((line for fact in facts for line in narrate(state, fact)), at)
        if self._metrics is not None:
            self._metrics.note_facts(state, facts, at)

    async def handle(
        self, request: requests.AnyRequest, who: Principal = OWNER
    ) -> replies.AnyReply | Upgrade:
        """Answer one request, as far as this principal may make it; raises Rejected where it may not."""
        request = self.check(request, who)
        if isinstance(request, requests.AgentAttach):
            return self._attach(request, who)
        reply = await self._dispatch.handle(request, who)
        if isinstance(request, requests.Watch):  # its token may have been revoked meanwhile
            self.check(request, who)
        return reply

    def check(self, request: requests.AnyRequest, who: Principal) -> requests.AnyRequest:
        """The request as far as this principal may make it; raises Rejected."""
        return access.check(self.engine.state, who, request, self.engine.now())

    def authenticate(self, token: str) -> Principal | None:
        """Whose token this is; None for one that opens nothing (any more)."""
        return self.executor.tokens.principal(self.engine.state, token, self.engine.now())

    def local_principal(self, token: str) -> Principal | None:
        """Who a peer on the unix socket is, with the token that it brings; None when it is refused."""
        is_ours = partial(self.executor.tokens.is_ours, self.engine.state)
        return access.local_principal(token, self.authenticate, is_ours)

    def _attach(self, request: requests.AgentAttach, who: Principal) -> Upgrade:
        agent = self.engine.state.find_agent(request.id)
        if not agent.is_alive or not agent.route:
            short = short_id(agent.id)
            is_early = agent.status in (AgentStatus.QUEUED, AgentStatus.STARTING)
            why = "it does not run yet" if is_early else f"it is {agent.status}"
            raise Rejected(
                f"cannot attach to agent {short}: {why}",
                code="conflict",
                hint=f"oj agent show {short}" if is_early else f"oj peek {short}",
            )
        session = self.executor.session(agent.id, agent.job_id, agent.route)
        return Upgrade(
            replies.AgentAttached(agent_id=agent.id, name=agent.name),
            partial(
                attach.serve,
                session=session,
                cols=request.cols,
                rows=request.rows,
                ended=lambda: access.ended(self.engine.state, who, self.engine.now()),
            ),
        )

    async def measure(self, seconds: float) -> None:
        """Write down what live agents spend, again and again."""
        while True:
            await asyncio.sleep(seconds)
            self.executor.usage_log.append(self._figures())

    def _figures(self) -> list[dict[str, Any]]:
        state = self.engine.state
        found = []
        for agent_id in state.live_agents:
            agent = state.agents[agent_id]
            job = state.jobs[agent.job_id]
            usage = usage_view(self.executor.usage(agent_id)) or replies.UsageView()
            at = datetime.fromtimestamp(self.engine.now() / 1000, UTC)
            found.append(
                {
                    "timestamp": f"{at:%Y-%m-%dT%H:%M:%SZ}",
                    "agent_id": agent.id,
                    "agent_kind": agent.name,
                    "job_id": job.id,
                    "job_kind": job.kind,
                    "job_step": job.runs[agent.run - 1].step,
                    "project": job.project,
                    "status": agent.status,
                    "input_tokens": usage.input_tokens,
                    "output_tokens": usage.output_tokens,
                    "cache_creation_input_tokens": usage.cache_write_tokens,
                    "cache_read_input_tokens": usage.cache_read_tokens,
                    "total_cost_usd": usage.total_cost_usd,
                    "total_api_ms": usage.total_api_ms,
                }
            )
        return found

    def figures(self) -> Figures:
        """How things are."""
        return Figures(
            jobs_active=jobs_active(self.engine),
            epoch=self.engine.epoch,
            seq=self.engine.seq,
            warnings=(
                *self.engine.warnings,
                *self._warnings,
                *self.executor.notices.warnings(self.engine.state),
            ),
            notifications_waiting=notify.waiting(self.engine.state),
        )

    @property
    def broken(self) -> asyncio.Future[None]:
        """Gets the StoreError when nothing can be made durable any more; until then it is pending."""
        return self.engine.broken

    async def drain(self, *, kill: bool) -> None:
        """Begin nothing any more; return when no order is in flight. With `kill`, suspend what runs first."""
        self.executor.hold()
        if kill:
            # Again with each news: a job that is on its way to the step of its on_fail can be suspended only there.
            while live := self._unsuspended():
                await self.engine.submit(requests.JobSuspend(ids=live, reason=KILLED))
                if self._unsuspended():
                    await self.engine.news()
        await self.executor.idle(steps=self._drain_steps)
        await self.executor.finish_deliveries()
        await self.engine.settle()
        await self.executor.stop()

    def _unsuspended(self) -> tuple[JobId, ...]:
        jobs = self.engine.state.jobs
        return tuple(id_ for id_ in self.engine.state.live if jobs[id_].status not in TERMINAL)

    async def close(self) -> None:
        """Write a snapshot and close the log."""
        await self.executor.stop()
        if self.places is not None:
            await self.places.close()
        await self.engine.close()


async def start(
    settings: Settings,
    guard: Callable[[], None] | None = None,
    *,
    recover: bool = False,
    metrics: Metrics | None = None,
) -> Works:
    """Open the log and pick up what runs; raises StoreError. `guard` raises one when this daemon may act no more."""
    policy = Policy(
        workspaces_dir=str(settings.state_dir / "workspaces"),
        state_dir=settings.state_folder,
        sinks=notify.sinks(settings),
        least_severity=Severity(settings.notify_severity),
    )
    # Before anything of a step is looked at: without it each step's end costs a look at every process of the machine.
    processes.become_subreaper()
    processes.raise_descriptor_limit()
    began = time.monotonic()
    engine = await Engine.open(settings.state_dir, policy, recover=recover, guard=guard)
    works = Works(engine, settings)
    if metrics is not None:
        works.count(metrics, time.monotonic() - began)
    for warning in engine.warnings:
        logger.warning("%s", warning)
    if settings.runtime == "kubernetes":
        await works.use_places(settings, metrics or Observer())
    active = [
        (job.id, run.run)
        for job in (engine.state.jobs[job_id] for job_id in engine.state.live)
        for run in job.active
        if run.status is StepStatus.RUNNING
        and isinstance(step_of(engine.state.definition(job), run.step).run, RunShell)
    ]
    sessions = [engine.state.agents[agent_id] for agent_id in engine.state.live_agents]
    evaluating = {
        job_id
        for job_id in engine.state.live
        if engine.state.jobs[job_id].evaluate
        and engine.state.jobs[job_id].status is JobStatus.PENDING
    }
    left = await works.executor.clear_leftovers(active, sessions, evaluating)
    if left:
        logger.warning("ended what was left of runs that are over: %s", ", ".join(left))
    here = [(job_id, run) for job_id, run in active if not works.has_place(job_id)]
    for lost in works.executor.unknown_after_reboot(here):
        engine.report(lost, "restart of the machine")
    await engine.durable()
    works.executor.note_boot()
    engine.recover()
    works.executor.chore(engine.keep_snapshots())
    if not settings.file_lock:
        works.executor.chore(engine.keep_watch())
    works.executor.chore(works.measure(settings.metrics_ms / 1000))
    if os.getpid() == 1:
        works.executor.chore(works.executor.shell.be_init(ORPHANS_SECONDS))
    logger.info(
        "log read to record %d: %d jobs, %d of them live",
        engine.seq,
        len(engine.state.jobs),
        len(engine.state.live),
    )
    return works
