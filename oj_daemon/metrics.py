"""What /metrics shows: the figures of one daemon, in a registry of its own.

Rule: what is so now is read from the state when somebody asks, what happens is counted once, from the facts of records that
are on disk, so a restart repeats nothing. Labels are words of ours and names from runbooks: never ids, pod names or prompts.
Imported only where there is an HTTP port.
"""

from __future__ import annotations

import logging
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from oj_daemon.core import events
from oj_daemon.core.events import AnyEvent
from oj_daemon.core.state import State, step_of
from oj_daemon.observer import Observer
from oj_daemon.readiness import Readiness
from oj_daemon.runbook.model import RunShell, StepDef
from oj_daemon.wire.names import AgentId, AgentStatus, DecisionSource, JobStatus

logger = logging.getLogger(__name__)

BRIEF: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)  # fmt: skip
"""Seconds of what a machine does: syncs, ticks, calls."""
WORK: Final = (0.1, 0.5, 1, 5, 15, 30, 60, 300, 900, 1800, 3600, 4 * 3600, 12 * 3600)
"""Seconds of steps and jobs."""
STARTS: Final = (0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
"""Seconds until a sidecar is up: processes at once, pods after an image was pulled."""
WAITS: Final = (1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600)
"""Seconds that people take."""
LEFT_MOST: Final = 1000
"""Conversations of which it is remembered what they had cost when their session ended."""


class Log(Protocol):
    """What is asked of the engine."""

    @property
    def epoch(self) -> int:
        """Which daemon of this state folder this is."""

    @property
    def seq(self) -> int:
        """Number of the last record."""

    @property
    def durable_seq(self) -> int:
        """Number of the last record that is on disk."""

    @property
    def log_bytes(self) -> int:
        """Size of all segments."""

    @property
    def saved_seq(self) -> int:
        """Number of the last record that the newest snapshot holds."""

    @property
    def saved_at(self) -> int:
        """When that was written, epoch milliseconds; 0 without one."""


class Spent(NamedTuple):
    """What a session has cost so far."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    usd: float = 0.0

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> Spent:
        """As a sidecar tells it."""
        return cls(
            int(figures.get("input_tokens") or 0),
            int(figures.get("output_tokens") or 0),
            int(figures.get("cache_read_tokens") or 0),
            int(figures.get("cache_write_tokens") or 0),
            float(figures.get("total_cost_usd") or 0.0),
        )


class Metrics(Observer):
    """Counters, and a reader of the state once there is one."""

    def __init__(self, readiness: Readiness, version: str) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        Gauge("oj_build_info", "Version of the daemon.", ["version"], registry=registry).labels(
            version
        ).set(1)
        self._recovery = Gauge(
            "oj_recovery_seconds", "How long reading snapshot and log took.", registry=registry
        )
        self._steps = counter("oj_steps", "Runs of steps that ended.", "kind", "outcome")
        self._step_seconds = histogram(
            "oj_step_duration_seconds", "From start to end of a run of a step.", WORK, "kind"
        )
        self._job_seconds = histogram(
            "oj_job_duration_seconds", "From the request to the end of a job.", WORK, "outcome"
        )
        self._agent_starts = histogram(
            "oj_agent_start_seconds", "From the order to a sidecar that is up.", STARTS, "runtime"
        )
        self._decision_waits = histogram(
            "oj_decision_wait_seconds", "From the question to its answer.", WAITS, "source"
        )
        self._tokens = counter("oj_tokens", "Tokens that agents used.", "agent", "direction")
        self._cost = counter("oj_cost_usd", "What agents spent, US dollars.", "agent")
        self._commits = histogram(
            "oj_log_commit_seconds", "Time to get a batch of records onto the disk.", BRIEF
        )
        self._written = counter("oj_log_written_bytes", "Bytes of records written to the log.")
        self._lag = histogram(
            "oj_event_loop_lag_seconds", "How late the event loop calls what is due.", BRIEF
        )
        self._api_calls = histogram(
            "oj_k8s_request_seconds", "Calls of the Kubernetes API.", BRIEF, "verb", "code"
        )
        self._lost = counter(
            "oj_agent_infra_lost", "Places that the cluster took away.", "diagnosis"
        )
        self._readiness = readiness
        self._notified = counter("oj_notify", "Notifications.", "sink", "outcome")
        ProcessCollector(registry=registry)
        self._now = _reader(registry, readiness)
        self._ordered: dict[AgentId, int] = {}
        """When sessions that are not up yet were ordered."""
        self._spent: dict[AgentId, Spent | None] = {}
        """What was counted of each session; None until what it had cost before we knew it is known."""
        self._left: dict[str, Spent] = {}
        """The same of conversations that another session may go on with: its figures begin where these end."""

    def watch(
        self, state: State, log: Log, now: Callable[[], int], recovery_seconds: float
    ) -> None:
        """From here on there is a state to read."""
        self._recovery.set(recovery_seconds)
        self._now.begin(state, log, now)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All figures as text, and its content type; `accept` is the header of that name."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    # What others tell

    def note_api_call(self, verb: str, code: int | str, seconds: float) -> None:
        """A call of the Kubernetes API was answered."""
        self._api_calls.labels(verb, str(code)).observe(seconds)

    def note_lost(self, diagnosis: str) -> None:
        """A place was lost through no fault of what ran in it."""
        self._lost.labels(diagnosis).inc()

    def read_pods(self, count: Callable[[], Mapping[str, int]], age: Callable[[], float]) -> None:
        """From here on there are pods to count."""
        self._now.pods = (count, age)

    def note_notified(self, sink: str, outcome: str) -> None:
        """A notification was sent, or given up."""
        self._notified.labels(sink, outcome).inc()

    def note_lag(self, seconds: float) -> None:
        """The event loop was that late."""
        self._lag.observe(seconds)

    def note_commit(self, seconds: float, size: int) -> None:
        """So many bytes of records are on disk after that time; from any thread."""
        self._commits.observe(seconds)
        self._written.inc(size)

    def note_usage(self, agent_id: AgentId, name: str, figures: Mapping[str, Any]) -> None:
        """A session has cost that much so far.

        What one that an earlier daemon started had cost before is not ours to count.
        """
        try:
            now = Spent.of(figures)
        except (TypeError, ValueError):  # a sidecar may be another program than ours
            logger.warning("usage cannot be read: %r", figures, extra={"agent": agent_id})
            return
        before = self._spent.get(agent_id)
        self._spent[agent_id] = now
        if before is None:
            return
        for direction in ("input", "output", "cache_read", "cache_write"):
            more = getattr(now, direction) - getattr(before, direction)
            if more > 0:
                self._tokens.labels(name, direction).inc(more)
        if now.usd > before.usd:
            self._cost.labels(name).inc(now.usd - before.usd)

    # Facts

    def note_facts(self, state: State, facts: Iterable[AnyEvent], at: int) -> None:
        """Count what is on disk; `state` may already be further."""
        for fact in facts:
            take = _TAKERS.get(type(fact))
            if take is not None:
                try:
                    take(self, state, fact, at)
                except Exception:  # figures are never worth a failure
                    logger.exception("counting %s failed", type(fact).__name__)

    def _step_exited(self, state: State, fact: events.StepExited, _at: int) -> None:
        job = state.jobs.get(fact.job_id)
        run = job.run_of(fact.run) if job is not None else None
        if job is None or run is None:
            return
        kind = _kind(step_of(state.definition(job), run.step))
        self._steps.labels(kind, run.status).inc()
        if run.started_at:
            self._step_seconds.labels(kind).observe((run.finished_at - run.started_at) / 1000)

    def _job_finished(self, state: State, fact: events.JobFinished, at: int) -> None:
        job = state.jobs.get(fact.job_id)
        if job is not None and fact.status is not JobStatus.SUSPENDED:
            self._job_seconds.labels(fact.status).observe((at - job.created_at) / 1000)

    def _agent_created(self, _state: State, fact: events.AgentCreated, _at: int) -> None:
        fresh = not fact.session_id
        self._spent[fact.agent_id] = Spent() if fresh else self._left.pop(fact.session_id, None)

    def _agent_starting(self, _state: State, fact: events.AgentStarting, at: int) -> None:
        self._ordered[fact.agent_id] = at

    def _agent_spawned(self, _state: State, fact: events.AgentSpawned, at: int) -> None:
        ordered = self._ordered.pop(fact.agent_id, None)
        if ordered is not None:  # else it was found again after a restart
            self._agent_starts.labels(fact.runtime).observe((at - ordered) / 1000)

    def _agent_ended(self, _state: State, fact: events.AgentEnded, _at: int) -> None:
        self._ordered.pop(fact.agent_id, None)
        spent = self._spent.pop(fact.agent_id, None)
        if spent is not None and fact.session_id:
            self._left[fact.session_id] = spent
            if len(self._left) > LEFT_MOST:
                del self._left[next(iter(self._left))]

    def _decision_resolved(self, state: State, fact: events.DecisionResolved, at: int) -> None:
        decision = state.decisions.get(fact.decision_id)
        if decision is not None:
            self._decision_waits.labels(decision.source).observe((at - decision.created_at) / 1000)


_TAKERS: Final[dict[type, Callable[..., None]]] = {
    events.StepExited: Metrics._step_exited,  # noqa: SLF001 - its own table
    events.JobFinished: Metrics._job_finished,  # noqa: SLF001 - the same
    events.AgentCreated: Metrics._agent_created,  # noqa: SLF001 - the same
    events.AgentStarting: Metrics._agent_starting,  # noqa: SLF001 - the same
    events.AgentSpawned: Metrics._agent_spawned,  # noqa: SLF001 - the same
    events.AgentEnded: Metrics._agent_ended,  # noqa: SLF001 - the same
    events.DecisionResolved: Metrics._decision_resolved,  # noqa: SLF001 - the same
}
"""Which facts are counted."""


class _Now(Collector):
    """Reads what is so when somebody asks; one generator for each noun."""

    def __init__(self, readiness: Readiness) -> None:
        self.pods: tuple[Callable[[], Mapping[str, int]], Callable[[], float]] | None = None
        self._readiness = readiness
        self._source: tuple[State, Log, Callable[[], int]] | None = None

    def begin(self, state: State, log: Log, now: Callable[[], int]) -> None:
        """From here on there is something to read."""
        self._source = (state, log, now)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry for each scrape."""
        yield from _conditions(self._readiness)
        if self._source is not None:
            state, log, now = self._source
            yield _family("oj_jobs", "Jobs that are known.", "state", _jobs(state))
            yield _family("oj_agents", "Sessions that are known.", "state", _agents(state))
            yield from _decisions(state, now())
            yield from _log(log, now())
        if self.pods is not None:
            count, age = self.pods
            yield _family("oj_agent_pods", "Pods of places.", "diagnosis", dict(count()))
            yield _single(
                "oj_k8s_watch_age_seconds", "Since the API server last told of pods.", age()
            )


def _reader(registry: CollectorRegistry, readiness: Readiness) -> _Now:
    reader = _Now(readiness)
    registry.register(reader)
    return reader


def _conditions(readiness: Readiness) -> Iterator[Metric]:
    leads = readiness.is_met("lease", "log")
    yield _single("oj_is_leader", "1 while this daemon is the one that acts.", float(leads))
    yield _family(
        "oj_ready",
        "1 for each condition that does not keep the daemon from being ready (draining: 1 while it is not).",
        "condition",
        {name: int(ok) for name, ok, _ in readiness.report()},
    )


_status = attrgetter("status")


def _jobs(state: State) -> dict[str, float]:
    return {**dict.fromkeys(JobStatus, 0), **Tally(map(_status, state.jobs.values()))}


def _agents(state: State) -> dict[str, float]:
    return {**dict.fromkeys(AgentStatus, 0), **Tally(map(_status, state.agents.values()))}


def _decisions(state: State, now: int) -> Iterator[Metric]:
    count: dict[str, float] = dict.fromkeys(DecisionSource, 0)
    oldest: dict[str, float] = dict.fromkeys(DecisionSource, 0)
    for decision_id in state.open_decisions:
        decision = state.decisions[decision_id]
        count[decision.source] += 1
        age = max(0.0, (now - decision.created_at) / 1000)
        oldest[decision.source] = max(oldest[decision.source], age)
    yield _family("oj_decisions_open", "Questions that wait for somebody.", "source", count)
    yield _family(
        "oj_decisions_oldest_seconds", "Age of the oldest of them; 0: none.", "source", oldest
    )


def _log(log: Log, now: int) -> Iterator[Metric]:
    yield _single("oj_log_epoch", "Which daemon of this state this is.", log.epoch)
    yield _single("oj_log_record", "Number of the last record.", log.seq)
    yield _single(
        "oj_log_waiting_records", "Records that are not on disk yet.", log.seq - log.durable_seq
    )
    yield _single("oj_log_bytes", "Size of the log.", log.log_bytes)
    yield _single(
        "oj_snapshot_behind_records",
        "Records that a start would replay on top of the newest snapshot.",
        log.seq - log.saved_seq,
    )
    if log.saved_at:
        age = max(0.0, (now - log.saved_at) / 1000)
        yield _single("oj_snapshot_age_seconds", "Age of the newest snapshot.", age)


def _single(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _family(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for word, value in values.items():
        family.add_metric([str(word)], value)
    return family


def _kind(step: StepDef) -> str:
    return "shell" if isinstance(step.run, RunShell) else "agent"
