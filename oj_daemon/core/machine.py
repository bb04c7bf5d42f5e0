"""The front door of the core: one turn at a time.

Rule: a turn is synchronous and total. What it makes true is one record of the log; the orders it yields leave only when that
record is durable. Nouns never call each other: every fact is offered to each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, assert_never, get_args

import msgspec

from oj_daemon.core import agent, decision, events, job, notification, token, workspace
from oj_daemon.core.effects import AnyEffect
from oj_daemon.core.events import AnyEvent, Event
from oj_daemon.core.state import Answer, Changes, Project, State, Turn
from oj_daemon.wire import requests


class Outcome(msgspec.Struct):
    """What one turn made true, and what it orders."""

    facts: list[AnyEvent]
    effects: list[AnyEffect]


def admit(state: State, request: requests.Change, turn: Turn) -> Answer:
    """Decide what a request makes true; raises Rejected when it cannot be. State is untouched."""
    match request:
        case requests.WorkspaceDrop() | requests.WorkspacePrune():
            return workspace.admit(state, request, turn)
        case requests.DecisionResolve() | requests.DecisionReopen():
            return decision.admit(state, request)
        case requests.TokenCreate() | requests.TokenRevoke():
            return token.admit(state, request, turn)
        case (
            requests.AgentSend()
            | requests.AgentKill()
            | requests.AgentResume()
            | requests.AgentResumeAll()
            | requests.AgentPrune()
        ):
            return agent.admit(state, request, turn)
        case (
            requests.RunCommand()
            | requests.JobCancel()
            | requests.JobSuspend()
            | requests.JobResume()
            | requests.JobResumeAll()
            | requests.JobPrune()
        ):
            return job.admit(state, request, turn)
        case _:
            assert_never(request)


def accepts(state: State, event: AnyEvent) -> bool:
    """Whether the fact may still become true."""
    return _ACCEPTS[type(event)](state, event)


def apply(state: State, event: AnyEvent, at: int) -> None:
    """Make the fact true: the only mutation of state, live and on replay."""
    for change in _CHANGES[type(event)]:
        change(state, event, at)


def perform(state: State, first: Iterable[AnyEvent | AnyEffect], turn: Turn) -> Outcome:
    """Make the facts true, and all that follows from them; orders among them are given on."""
    outcome = Outcome(facts=[], effects=[])
    waiting: deque[AnyEvent] = deque()

    def take(items: Iterable[AnyEvent | AnyEffect]) -> None:
        for item in items:
            if not isinstance(item, Event):
                outcome.effects.append(item)
            elif accepts(state, item):
                apply(state, item, turn.now)
                outcome.facts.append(item)
                waiting.append(item)

    take(first)
    while waiting:
        event = waiting.popleft()
        for react in _REACTIONS[type(event)]:
            take(react(state, event, turn))
    return outcome


def recover(state: State, turn: Turn) -> Outcome:
    """After a restart: the orders of everything that is under way, and facts for what cannot go on."""
    return perform(
        state,
        [
            *job.recover(state),
            *workspace.recover(state),
            *agent.recover(state),
            *decision.recover(state),
            *notification.recover(state, turn),
        ],
        turn,
    )


def _runbook_loaded(state: State, event: events.RunbookLoaded, _at: int) -> None:
    state.runbooks[event.hash] = event.runbook


def _project_seen(state: State, event: events.ProjectSeen, at: int) -> None:
    state.projects[event.name] = Project(name=event.name, root=event.root, seen_at=at)


_OWN: Final[Changes] = {
    events.RunbookLoaded: _runbook_loaded,
    events.ProjectSeen: _project_seen,
}
_ACCEPTS: Final[dict[type, Callable[..., bool]]] = {
    **dict.fromkeys(get_args(events.CatalogEvent), lambda _state, _event: True),
    **dict.fromkeys(get_args(events.JobEvent), job.accepts),
    **dict.fromkeys(get_args(events.WorkspaceEvent), workspace.accepts),
    **dict.fromkeys(get_args(events.AgentEvent), agent.accepts),
    **dict.fromkeys(get_args(events.DecisionEvent), decision.accepts),
    **dict.fromkeys(get_args(events.TokenEvent), token.accepts),
    **dict.fromkeys(get_args(events.NotificationEvent), notification.accepts),
}
_CHANGES: Final = {
    fact: tuple(
        table[fact]
        for table in (
            _OWN,
            decision.CHANGES,
            job.CHANGES,
            workspace.CHANGES,
            agent.CHANGES,
            token.CHANGES,
            notification.CHANGES,
        )
        if fact in table
    )
    for fact in get_args(AnyEvent)
}
"""What each fact changes. A table, because this is what a start does for every fact of the log: a `match` of so many
classes costs several times as much as the change."""
_REACTIONS: Final = {
    fact: tuple(
        table[fact]
        # Decisions first: one that became needless is closed before the agent's action is thought about. Then people are
        # told, before what follows changes what there is to tell.
        for table in (
            decision.REACTIONS,
            notification.REACTIONS,
            job.REACTIONS,
            workspace.REACTIONS,
            agent.REACTIONS,
        )
        if fact in table
    )
    for fact in get_args(AnyEvent)
}
"""What follows from each fact, in this order."""
