"""Notifications: what people are told, and how far each sink (webhook, desktop) is with it.

Rule: nouns do not know that anybody is told anything: here is the one place that listens to their facts. A notification is
a fact, kept until every sink of its time has taken it or it was given up, so a crash loses none; a sink may get one twice,
with the same id. Each sink has a queue whose first entry is on its way and no other, so what is told arrives in the order in
which it happened, but for what had to be tried again. Nothing waits for a notification: no job knows whether one arrived.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from msgspec import structs

from oj_daemon.core import effects, events
from oj_daemon.core.effects import AnyEffect
from oj_daemon.core.events import AnyEvent, Choice, Question
from oj_daemon.core.state import (
    Agent,
    Changes,
    Decision,
    Delivery,
    Job,
    Notification,
    Reactions,
    State,
    Turn,
    values_of,
)
from oj_daemon.core.views import title
from oj_daemon.errors import OjError
from oj_daemon.runbook import template
from oj_daemon.wire.names import (
    PREFIXES,
    AgentStatus,
    DecisionId,
    DecisionSource,
    DecisionStatus,
    JobStatus,
    NotificationId,
    Severity,
    short_id,
)

FIRST_WAIT_MS: Final = 1000
"""Between the first try that failed and the second; doubles from then on."""
LONGEST_WAIT_MS: Final = 600_000
GIVE_UP_MS: Final = 24 * 3_600_000
"""How long after it happened something is still worth telling."""

INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL
SEVERITIES: Final[Mapping[str, Severity]] = {
    "job:started": INFO,
    "job:completed": INFO,
    "job:cancelled": INFO,
    "job:failed": WARNING,
    "agent:started": INFO,
    "agent:done": INFO,
    "agent:failed": WARNING,
    "decision:undecided": CRITICAL,
    f"decision:{DecisionSource.IDLE}": WARNING,
    f"decision:{DecisionSource.APPROVAL}": WARNING,
    f"decision:{DecisionSource.QUESTION}": WARNING,
    f"decision:{DecisionSource.PLAN}": WARNING,
    f"decision:{DecisionSource.DEAD}": CRITICAL,
    f"decision:{DecisionSource.ERROR}": CRITICAL,
    f"decision:{DecisionSource.GATE}": CRITICAL,
}
"""Every event that people are told of. A decision is named after its source: an agent that asks something is the usual
course of things, one that died or does not pass its gate is not."""
RANKS: Final = tuple(Severity)
ENDS: Final = {
    JobStatus.DONE: ("job:completed", "done"),
    JobStatus.FAILED: ("job:failed", "fail"),
    JobStatus.CANCELLED: ("job:cancelled", "cancel"),
}
"""How a job ended -> event, and the text of its definition that tells of it."""
AGENT_ENDS: Final = {"done": ("agent:done", "done"), "fail": ("agent:failed", "fail")}


class _News(NamedTuple):
    """What people are to be told."""

    event: str
    title: str
    text: str
    line: str
    """What the logs say."""
    decision_id: DecisionId = DecisionId("")
    options: tuple[Choice, ...] = ()
    questions: tuple[Question, ...] = ()


# --- accepts, apply --------------------------------------------------------------------------------------------------


def accepts(state: State, event: events.NotificationEvent) -> bool:
    """Whether the fact may still become true."""
    known = state.notifications.get(event.notification_id)
    if isinstance(event, events.NotificationQueued):
        return known is None
    delivery = known.deliveries.get(event.sink) if known is not None else None
    if delivery is None:
        return False
    if isinstance(event, events.NotificationDue):
        return bool(delivery.retry_at)
    if isinstance(event, events.NotificationWithdrawn):
        return True
    return _first(state, event.sink) == event.notification_id


def _queued(state: State, event: events.NotificationQueued, at: int) -> None:
    state.put_notification(
        Notification(
            id=event.notification_id,
            event=event.event,
            severity=event.severity,
            title=event.title,
            text=event.text,
            at=at,
            deliveries={sink: Delivery() for sink in event.sinks},
            project=event.project,
            job_id=event.job_id,
            job_name=event.job_name,
            decision_id=event.decision_id,
            options=event.options,
            questions=event.questions,
        )
    )
    for sink in event.sinks:
        state.outbox.setdefault(sink, {})[event.notification_id] = None


def _settled(
    state: State,
    event: events.NotificationDelivered | events.NotificationDropped | events.NotificationWithdrawn,
    _at: int,
) -> None:
    notification = state.notifications[event.notification_id]
    state.outbox.setdefault(event.sink, {}).pop(event.notification_id, None)
    left = {sink: each for sink, each in notification.deliveries.items() if sink != event.sink}
    state.put_notification(structs.replace(notification, deliveries=left))


def _failed(state: State, event: events.NotificationFailed, _at: int) -> None:
    delivery = state.notifications[event.notification_id].deliveries[event.sink]
    failed = structs.replace(delivery, attempts=delivery.attempts + 1, reason=event.reason)
    _put_delivery(state, event, failed)


def _retry_scheduled(state: State, event: events.NotificationRetryScheduled, _at: int) -> None:
    delivery = state.notifications[event.notification_id].deliveries[event.sink]
    del state.outbox[event.sink][event.notification_id]
    _put_delivery(state, event, structs.replace(delivery, retry_at=event.at))


def _due(state: State, event: events.NotificationDue, _at: int) -> None:
    delivery = state.notifications[event.notification_id].deliveries[event.sink]
    state.outbox.setdefault(event.sink, {})[event.notification_id] = None
    _put_delivery(state, event, structs.replace(delivery, retry_at=0))


def _put_delivery(
    state: State,
    event: events.NotificationFailed | events.NotificationRetryScheduled | events.NotificationDue,
    delivery: Delivery,
) -> None:
    notification = state.notifications[event.notification_id]
    deliveries = {**notification.deliveries, event.sink: delivery}
    state.put_notification(structs.replace(notification, deliveries=deliveries))


CHANGES: Final[Changes] = {
    events.NotificationQueued: _queued,
    events.NotificationDelivered: _settled,
    events.NotificationFailed: _failed,
    events.NotificationRetryScheduled: _retry_scheduled,
    events.NotificationDue: _due,
    events.NotificationDropped: _settled,
    events.NotificationWithdrawn: _settled,
}
"""What each fact changes of the notifications."""


# --- react: what is told ---------------------------------------------------------------------------------------------


def _on_job_created(
    state: State, event: events.JobCreated, turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    yield from _tell_of_job(state, state.jobs[event.job_id], ("job:started", "start"), turn)


def _on_job_finished(
    state: State, event: events.JobFinished, turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    if event.status in ENDS:
        yield from _tell_of_job(state, state.jobs[event.job_id], ENDS[event.status], turn)


def _on_agent_spawned(
    state: State, event: events.AgentSpawned, turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    agent = state.agents[event.agent_id]
    if agent.status is not AgentStatus.ENDING:
        yield from _tell_of_agent(state, agent, ("agent:started", "start"), turn)


def _on_agent_ended(
    state: State, event: events.AgentEnded, turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    agent = state.agents[event.agent_id]
    if agent.ending in AGENT_ENDS:
        yield from _tell_of_agent(state, agent, AGENT_ENDS[agent.ending], turn)


def _on_decision_open(
    state: State, event: events.DecisionCreated | events.DecisionReopened, turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    decision = state.decisions[event.decision_id]
    news = _about(state, decision)._replace(
        event=f"decision:{decision.source}",
        line=f"Requires attention ({decision.source}); oj decision show {short_id(decision.id)}",
    )
    yield from _tell(state.jobs[decision.job_id], news, turn)


def _on_decision_expired(
    state: State, event: events.DecisionExpired, turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    decision = state.decisions[event.decision_id]
    if decision.status is not DecisionStatus.OPEN:  # its default was taken
        return
    job = state.jobs[decision.job_id]
    news = _about(state, decision)._replace(
        event="decision:undecided",
        title=f"Still undecided: {title(job)}",
        text=f"Nobody answered until the deadline.\n\n{decision.context}",
        line=f"Nobody answered: oj decision show {short_id(decision.id)}",
    )
    yield from _tell(job, news, turn)


def _about(state: State, decision: Decision) -> _News:
    return _News(
        event="",
        title=f"Decision needed: {title(state.jobs[decision.job_id])}",
        text=decision.context,
        line="",
        decision_id=decision.id,
        options=decision.options,
        questions=decision.questions,
    )


def _tell_of_job(
    state: State, job: Job, what: tuple[str, str], turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    event, when = what
    text = getattr(state.definition(job).notify, f"on_{when}")
    if text is not None:
        body = _filled(text, {**values_of(job), "error": job.error}, job)
        yield from _tell(job, _News(event, title(job), body, body), turn)


def _tell_of_agent(
    state: State, agent: Agent, what: tuple[str, str], turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    event, when = what
    text = getattr(state.agent_definition(agent).notify, f"on_{when}")
    if text is not None:
        job = state.jobs[agent.job_id]
        more = {
            "agent": agent.name,
            "step": job.runs[agent.run - 1].step,
            "error": agent.ending_error,
        }
        body = _filled(text, {**values_of(job), **more}, job)
        yield from _tell(job, _News(event, agent.name, body, body), turn)


def _filled(text: str, values: Mapping[str, str], job: Job) -> str:
    try:
        return template.render(text, values, job.env)
    except OjError as error:
        return f"{text} ({error.message})"


def _tell(job: Job, news: _News, turn: Turn) -> Iterator[AnyEvent | AnyEffect]:
    """Note it in the logs, and queue it for every sink that there is."""
    yield effects.Notify(title=news.title, text=news.line, job_id=job.id)
    severity = SEVERITIES[news.event]
    least = turn.policy.least_severity
    if not turn.policy.sinks or RANKS.index(severity) < RANKS.index(least):
        return
    yield events.NotificationQueued(
        notification_id=NotificationId(turn.fresh(PREFIXES["notification"])),
        event=news.event,
        severity=severity,
        title=news.title,
        text=news.text,
        sinks=turn.policy.sinks,
        project=job.project,
        job_id=job.id,
        job_name=title(job),
        decision_id=news.decision_id,
        options=news.options,
        questions=news.questions,
    )


# --- react: how it gets there ----------------------------------------------------------------------------------------


def _on_queued(
    state: State, event: events.NotificationQueued, turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    for sink in event.sinks:
        yield from _make_room(state, sink, turn.policy.outbox_limit)
        if _first(state, sink) == event.notification_id:
            yield _deliver(state, sink)


def _make_room(state: State, sink: str, limit: int) -> Iterator[AnyEvent]:
    """Give up the oldest that is not on its way."""
    waiting = state.undelivered[sink]
    if len(waiting) > limit:
        first = _first(state, sink)
        oldest = next(id_ for id_ in waiting if id_ != first)
        reason = f"more than {limit} notifications waited"
        yield events.NotificationWithdrawn(notification_id=oldest, sink=sink, reason=reason)


def _on_delivered(
    state: State, event: events.NotificationDelivered, _turn: Turn
) -> Iterator[AnyEffect]:
    yield from _next(state, event.sink)


def _on_dropped(
    state: State, event: events.NotificationDropped, _turn: Turn
) -> Iterator[AnyEffect]:
    yield _report(event)
    yield from _next(state, event.sink)


def _on_failed(state: State, event: events.NotificationFailed, turn: Turn) -> Iterator[AnyEvent]:
    notification = state.notifications[event.notification_id]
    attempts = notification.deliveries[event.sink].attempts
    usual = min(FIRST_WAIT_MS << min(attempts - 1, 20), LONGEST_WAIT_MS)
    at = turn.now + max(usual, event.wait_ms)
    reason = ""
    if notification.decision_id and not _is_open(state, notification.decision_id):
        reason = f"{event.reason}; the decision is settled"
    elif at > notification.at + GIVE_UP_MS:
        reason = f"gave up after {attempts} tries: {event.reason}"
    if reason:
        yield events.NotificationDropped(
            notification_id=event.notification_id, sink=event.sink, reason=reason
        )
        return
    yield events.NotificationRetryScheduled(
        notification_id=event.notification_id, sink=event.sink, attempt=attempts + 1, at=at
    )


def _on_retry_scheduled(
    state: State, event: events.NotificationRetryScheduled, _turn: Turn
) -> Iterator[AnyEffect]:
    yield _timer(event.notification_id, event.sink, event.at)
    yield from _next(state, event.sink)


def _on_due(state: State, event: events.NotificationDue, _turn: Turn) -> Iterator[AnyEffect]:
    if _first(state, event.sink) == event.notification_id:
        yield _deliver(state, event.sink)


def _on_withdrawn(
    _state: State, event: events.NotificationWithdrawn, _turn: Turn
) -> Iterator[AnyEffect]:
    yield effects.CancelTimer(key=_key(event.notification_id, event.sink))
    if not event.is_needless:
        yield _report(event)


def _on_decision_settled(
    state: State, event: events.DecisionResolved | events.DecisionClosed, _turn: Turn
) -> Iterator[AnyEvent]:
    """Nobody needs to hear any more of a decision that was made; what is on its way is let go."""
    for notification in [
        each for each in state.notifications.values() if each.decision_id == event.decision_id
    ]:
        for sink in notification.deliveries:
            if _first(state, sink) != notification.id:
                yield events.NotificationWithdrawn(
                    notification_id=notification.id,
                    sink=sink,
                    reason="the decision is settled",
                    is_needless=True,
                )


REACTIONS: Final[Reactions] = {
    events.JobCreated: _on_job_created,
    events.JobFinished: _on_job_finished,
    events.AgentSpawned: _on_agent_spawned,
    events.AgentEnded: _on_agent_ended,
    events.DecisionCreated: _on_decision_open,
    events.DecisionReopened: _on_decision_open,
    events.DecisionExpired: _on_decision_expired,
    events.DecisionResolved: _on_decision_settled,
    events.DecisionClosed: _on_decision_settled,
    events.NotificationQueued: _on_queued,
    events.NotificationDelivered: _on_delivered,
    events.NotificationFailed: _on_failed,
    events.NotificationRetryScheduled: _on_retry_scheduled,
    events.NotificationDue: _on_due,
    events.NotificationDropped: _on_dropped,
    events.NotificationWithdrawn: _on_withdrawn,
}
"""What people are told, and what follows for what they are told."""


def recover(state: State, turn: Turn) -> Iterator[AnyEvent | AnyEffect]:
    """What was on its way leaves again; what sinks that are gone never took is given up."""
    for sink, ids in state.undelivered.items():
        if sink not in turn.policy.sinks:
            for notification_id in ids:
                yield events.NotificationWithdrawn(
                    notification_id=notification_id,
                    sink=sink,
                    reason="this daemon is set up without that way to tell people",
                )
            continue
        yield from _next(state, sink)
        for notification_id in ids:
            retry_at = state.notifications[notification_id].deliveries[sink].retry_at
            if retry_at:
                yield _timer(notification_id, sink, retry_at)


def _first(state: State, sink: str) -> NotificationId | None:
    """What is on its way to the sink."""
    return next(iter(state.outbox.get(sink, ())), None)


def _next(state: State, sink: str) -> Iterator[AnyEffect]:
    """The sink is free: hand it what comes first."""
    if state.outbox.get(sink):
        yield _deliver(state, sink)


def _deliver(state: State, sink: str) -> AnyEffect:
    notification = state.notifications[next(iter(state.outbox[sink]))]
    several = notification.questions if len(notification.questions) > 1 else ()
    return effects.DeliverNotification(
        notification_id=notification.id,
        sink=sink,
        event=notification.event,
        severity=notification.severity,
        title=notification.title,
        text=notification.text,
        at=notification.at,
        project=notification.project,
        job_id=notification.job_id,
        job_name=notification.job_name,
        decision_id=notification.decision_id,
        options=notification.options,
        questions=several,
        answer=_answer(notification),
    )


def _answer(notification: Notification) -> str:
    if not notification.decision_id:
        return ""
    numbers = " ".join("N" for _ in notification.questions or ("",))
    return f"oj decision resolve {short_id(notification.decision_id)} {numbers} [-m TEXT]"


def _is_open(state: State, decision_id: DecisionId) -> bool:
    decision = state.decisions.get(decision_id)
    return decision is not None and decision.status is DecisionStatus.OPEN


def _report(
    event: events.NotificationDropped | events.NotificationWithdrawn,
) -> effects.ReportDrop:
    return effects.ReportDrop(
        notification_id=event.notification_id, sink=event.sink, reason=event.reason
    )


def _timer(notification_id: NotificationId, sink: str, at: int) -> effects.SetTimer:
    return effects.SetTimer(
        key=_key(notification_id, sink),
        at=at,
        fact=events.NotificationDue(notification_id=notification_id, sink=sink),
    )


def _key(notification_id: NotificationId, sink: str) -> str:
    return f"notification:{notification_id}/{sink}"
