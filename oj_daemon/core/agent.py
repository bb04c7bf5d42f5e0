"""Agents: sessions of agent programs, one for each run of an agent step (a stand-alone agent is a job of one such step).

Rule: what a session does is reported as facts with the sidecar's number, so news that is late or told twice changes nothing.
What follows (the definition's action for a trigger) is counted in the log before it is done, so a crash repeats no message and
forgets no attempt. A session is always ended before its step is over: `AgentEnding`, and only after `AgentEnded` the step's
`StepExited`, or the next session that goes on with its conversation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never, get_args

from msgspec import structs

from oj_daemon.core import effects, events
from oj_daemon.core.effects import AnyEffect
from oj_daemon.core.events import AnyEvent
from oj_daemon.core.state import (
    Agent,
    Answer,
    Changes,
    Job,
    Reactions,
    State,
    Turn,
    check_place,
    place_of,
    step_of,
)
from oj_daemon.core.views import agent_view
from oj_daemon.errors import OjError, Rejected
from oj_daemon.runbook import template
from oj_daemon.runbook.model import ActionDef, AgentAction, AgentDef, RunAgent
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import (
    ENDED_AGENTS,
    PREFIXES,
    TERMINAL,
    AgentId,
    AgentStatus,
    DecisionSource,
    JobId,
    JobStatus,
    PromptKind,
    StepStatus,
    Trigger,
    short_id,
)

CONTINUE: Final = "Please continue with the task."
"""What a nudge or a resume says when the runbook does not."""
START_UP_MS: Final = 120_000
"""How long a session may take until its first report."""
IGNORED_MS: Final = 60_000
"""How long a typed message may go without any reaction before the agent counts as idle again."""
MAX_SESSIONS: Final = 25
"""Sessions of one run after which its `resume` asks a human: `attempts = "forever"` is not for an agent that dies at once."""
MAX_CRASHES: Final = 50
"""Short sessions of one definition in one project, one after the other and over all jobs, after which its `resume` asks a human."""
MIN_UPTIME_MS: Final = 60_000
"""A session that lasted this long shows that the definition works (field-notes.md 2)."""
STALLED: Final = "stalled"
"""Category of an error: nothing was heard of the agent for too long."""


PRUNE_AGE_MS: Final = 24 * 3_600_000
"""How long the sessions of an ended job are remembered, unless asked otherwise."""


def admit(state: State, request: requests.AgentRequest, turn: Turn) -> Answer:
    """Decide what a request makes of sessions; raises Rejected when it cannot be."""
    match request:
        case requests.AgentResumeAll():
            return _admit_resume_all(state, request)
        case requests.AgentPrune():
            return _admit_prune(state, request, turn)
        case _:
            return _admit_one(state, request)


def _admit_one(
    state: State, request: requests.AgentSend | requests.AgentKill | requests.AgentResume
) -> Answer:
    agent = state.find_agent(request.id)
    short = short_id(agent.id)
    if agent.status in ENDED_AGENTS or agent.status is AgentStatus.ENDING:
        raise Rejected(
            f"agent {short} is {agent.status}",
            code="conflict",
            hint=f"oj job resume {short_id(agent.job_id)}",
        )
    fact: AnyEvent
    match request:
        case requests.AgentSend(message=message):
            if not agent.is_alive:
                raise Rejected(
                    f"agent {short} is not up: it is {agent.status}",
                    code="conflict",
                    hint=f"oj agent show {short}",
                )
            fact = events.AgentNudging(agent_id=agent.id, nudge=agent.nudges + 1, message=message)
        case requests.AgentKill():
            fact = events.AgentKilled(agent_id=agent.id)
        case requests.AgentResume(message=message, kill=kill):
            fact = _resuming(agent, message, kill=kill)
        case _:
            assert_never(request)
    return Answer(agent_view(state, agent), [fact])


def _resuming(agent: Agent, message: str | None, *, kill: bool) -> AnyEvent:
    """How a session goes on: told to, if it is up and may stay; else in a new one."""
    if kill or agent.has_exited:
        return events.AgentEnding(agent_id=agent.id, why="resume", message=message or CONTINUE)
    short = short_id(agent.id)
    if not agent.is_alive:
        raise Rejected(
            f"agent {short} is not up yet: it is {agent.status}",
            code="conflict",
            hint=f"oj agent resume {short} --kill",
        )
    if agent.prompt is not None:
        raise Rejected(
            f"agent {short} waits at a dialog, where a message would be taken for the answer",
            code="conflict",
            hint=f"oj decision list; oj agent resume {short} --kill",
        )
    return events.AgentNudging(
        agent_id=agent.id, nudge=agent.nudges + 1, message=message or CONTINUE
    )


def _admit_resume_all(state: State, request: requests.AgentResumeAll) -> Answer:
    resumed: list[str] = []
    skipped: list[tuple[str, str]] = []
    facts: list[AnyEvent] = []
    for agent_id in state.live_agents:
        agent = state.agents[agent_id]
        if request.project not in (None, state.jobs[agent.job_id].project):
            continue
        if agent.status is AgentStatus.ENDING:
            skipped.append((agent_id, "it is being ended"))
        elif not agent.has_exited and not request.kill:
            skipped.append((agent_id, "its session is up; --kill replaces it"))
        else:
            facts.append(_resuming(agent, request.message, kill=True))
            resumed.append(agent_id)
    return Answer(replies.AgentsResumed(resumed=tuple(resumed), skipped=tuple(skipped)), facts)


def _admit_prune(state: State, request: requests.AgentPrune, turn: Turn) -> Answer:
    pruned: list[replies.PrunedEntry] = []
    facts: list[AnyEvent] = []
    skipped = 0
    for job_id, ids in state.job_agents.items():
        job = state.jobs[job_id]
        if request.project not in (None, job.project):
            continue
        if not _prunable(job, request, turn.now):
            skipped += len(ids)
            continue
        facts.append(events.AgentsForgotten(job_id=job_id))
        pruned += [
            replies.PrunedEntry(
                id=agent_id,
                name=state.agents[agent_id].name,
                detail=f"job {short_id(job_id)} {job.status}",
            )
            for agent_id in ids
        ]
    reply = replies.Pruned(dry_run=request.dry_run, pruned=tuple(pruned), skipped=skipped)
    return Answer(reply, [] if request.dry_run else facts)


def _prunable(job: Job, request: requests.AgentPrune, now: int) -> bool:
    """Only ended jobs; a failed one may be resumed with its conversation, so it has to be asked for."""
    if job.status not in TERMINAL or job.status is JobStatus.SUSPENDED:
        return False
    old = now - job.finished_at >= PRUNE_AGE_MS and job.status is not JobStatus.FAILED
    return request.all or old


def accepts(state: State, event: events.AgentEvent) -> bool:
    """Whether the fact may still become true."""
    if isinstance(event, events.AgentsForgotten):
        ended = state.jobs.get(event.job_id)
        return (
            ended is not None
            and ended.status in TERMINAL
            and ended.status is not JobStatus.SUSPENDED
        )
    if isinstance(event, events.AgentCreated):
        job = state.jobs.get(event.job_id)
        run = job.run_of(event.run) if job is not None else None
        return (
            run is not None
            and run.status in (StepStatus.RUNNING, StepStatus.WAITING)
            and state.agent_of(event.job_id, event.run) is None
        )
    agent = state.agents.get(event.agent_id)
    if agent is None or agent.status in ENDED_AGENTS:
        return False
    is_ending = agent.status is AgentStatus.ENDING
    match event:
        case events.AgentStarting():
            return agent.status is AgentStatus.QUEUED
        case events.AgentSpawned() | events.AgentSpawnFailed():
            return agent.status in (AgentStatus.STARTING, AgentStatus.ENDING)
        case events.AgentReported(seq=seq):
            return not is_ending and not agent.has_exited and agent.is_ordered and seq > agent.seq
        case events.AgentStopBlocked():
            return not is_ending and not agent.has_exited
        case events.AgentExited():
            return not is_ending and not agent.has_exited and agent.is_ordered
        case events.AgentKilled():
            return not is_ending and not agent.has_exited and agent.is_ordered
        case events.AgentOverdue():
            return not is_ending and not agent.has_exited and agent.is_ordered and agent.seq == 0
        case events.AgentActionDue():
            return not is_ending and agent.pending is None
        case events.AgentActed(trigger=trigger):
            return not is_ending and agent.pending in (None, trigger)
        case events.AgentNudging():
            return agent.is_alive
        case events.AgentNudged(nudge=nudge):
            return nudge == agent.nudges and agent.nudged < nudge
        case events.AgentIgnored(nudge=nudge):
            return agent.is_alive and nudge == agent.nudges and agent.state == "idle"
        case events.AgentAnswering(prompt=prompt):
            return agent.is_alive and agent.prompt is not None and agent.prompt.seq == prompt
        case events.AgentAnswered(prompt=prompt):
            return agent.answering is not None and agent.answering.prompt == prompt
        case events.AgentEscalated():
            return not is_ending
        case events.GateStarted():
            return not is_ending and agent.gate is None
        case events.GateFinished(gate=gate):
            return not is_ending and agent.gate is not None and agent.gates == gate
        case events.AgentEnding():
            return not is_ending
        case events.AgentEnded():
            return is_ending
        case _:
            assert_never(event)


# --- apply -----------------------------------------------------------------------------------------------------------


def _put(records: State, agent: Agent, at: int, **changes: object) -> None:
    records.put_agent(structs.replace(agent, updated_at=at, **changes))


def _created(state: State, event: events.AgentCreated, at: int) -> None:
    state.put_agent(
        Agent(
            id=event.agent_id,
            job_id=event.job_id,
            run=event.run,
            name=event.name,
            session_id=event.session_id,
            message=event.message,
            attempts=event.attempts,
            created_at=at,
            updated_at=at,
        )
    )


def _starting(state: State, event: events.AgentStarting, at: int) -> None:
    _put(state, state.agents[event.agent_id], at, status=AgentStatus.STARTING, is_ordered=True)


def _spawned(state: State, event: events.AgentSpawned, at: int) -> None:
    agent = state.agents[event.agent_id]
    status = agent.status if agent.status is AgentStatus.ENDING else AgentStatus.RUNNING
    session = event.session_id or agent.session_id
    _put(
        state,
        agent,
        at,
        status=status,
        runtime=event.runtime,
        route=event.route,
        session_id=session,
    )


def _spawn_failed(state: State, event: events.AgentSpawnFailed, at: int) -> None:
    agent = state.agents[event.agent_id]
    if agent.status is AgentStatus.ENDING:
        return  # the end that is on its way finds nothing
    _put(state, agent, at, status=AgentStatus.FAILED, detail=event.reason, ended_at=at)


def _reported(state: State, event: events.AgentReported, at: int) -> None:
    agent = state.agents[event.agent_id]
    works = event.state == "working"
    _put(
        state,
        agent,
        at,
        status=AgentStatus.WAITING
        if event.state in ("idle", "prompt", "error", "stalled")
        else AgentStatus.RUNNING,
        seq=event.seq,
        state=event.state,
        prompt=event.prompt,
        error=event.error,
        detail=event.detail,
        last_message=event.last_message or agent.last_message,
        session_id=event.session_id or agent.session_id,
        pending=None if works else agent.pending,
    )


def _stop_blocked(state: State, event: events.AgentStopBlocked, at: int) -> None:
    """A message that arrives this way is an attempt like one that is typed."""
    agent = state.agents[event.agent_id]
    definition = state.agent_definition(agent)
    if definition.on_idle is not None and definition.on_idle.action is AgentAction.NUDGE:
        key = Trigger.IDLE.value
        _put(state, agent, at, attempts={**agent.attempts, key: agent.attempts.get(key, 0) + 1})


def _exited(state: State, event: events.AgentExited, at: int) -> None:
    agent = state.agents[event.agent_id]
    _put(
        state,
        agent,
        at,
        has_exited=True,
        exit_code=event.exit_code,
        exit_reason=event.reason,
        status=AgentStatus.WAITING,
        state="exited",
        prompt=None,
        pending=None,
        answering=None,
    )


def _nothing(state: State, event: AnyEvent, at: int) -> None:
    """The fact is for `react` alone."""


def _acted(state: State, event: events.AgentActed, at: int) -> None:
    agent = state.agents[event.agent_id]
    key = _counted(state.agent_definition(agent), event.trigger, event.detail)
    _put(
        state,
        agent,
        at,
        attempts={**agent.attempts, key: agent.attempts.get(key, 0) + 1},
        pending=None,
    )


def _action_due(state: State, event: events.AgentActionDue, at: int) -> None:
    agent = state.agents[event.agent_id]
    _put(state, agent, at, pending=event.trigger, pending_at=event.at, pending_detail=event.detail)


def _nudging(state: State, event: events.AgentNudging, at: int) -> None:
    _put(state, state.agents[event.agent_id], at, nudges=event.nudge, nudge=event.message)


def _nudged(state: State, event: events.AgentNudged, at: int) -> None:
    _put(state, state.agents[event.agent_id], at, nudged=event.nudge)


def _answering(state: State, event: events.AgentAnswering, at: int) -> None:
    _put(state, state.agents[event.agent_id], at, answering=event)


def _answered(state: State, event: events.AgentAnswered, at: int) -> None:
    _put(state, state.agents[event.agent_id], at, answering=None)


def _gate_started(state: State, event: events.GateStarted, at: int) -> None:
    _put(state, state.agents[event.agent_id], at, gates=event.gate, gate=event.trigger)


def _gate_finished(state: State, event: events.GateFinished, at: int) -> None:
    _put(state, state.agents[event.agent_id], at, gate=None)


def _ending(state: State, event: events.AgentEnding, at: int) -> None:
    _put(
        state,
        state.agents[event.agent_id],
        at,
        status=AgentStatus.ENDING,
        ending=event.why,
        ending_error=event.error,
        ending_message=event.message,
        is_fresh=event.fresh,
        pending=None,
        gate=None,
        answering=None,
    )


def _ended(state: State, event: events.AgentEnded, at: int) -> None:
    agent = state.agents[event.agent_id]
    status = {"done": AgentStatus.COMPLETED, "fail": AgentStatus.FAILED}.get(
        agent.ending, AgentStatus.GONE
    )
    _put(
        state,
        agent,
        at,
        status=status,
        ended_at=at,
        session_id=event.session_id or agent.session_id,
        prompt=None,
    )


def _forgotten(state: State, event: events.AgentsForgotten | events.JobDeleted, at: int) -> None:  # noqa: ARG001 - the table's signature
    state.drop_agents(event.job_id)


CHANGES: Final[Changes] = {
    events.AgentCreated: _created,
    events.AgentStarting: _starting,
    events.AgentSpawned: _spawned,
    events.AgentSpawnFailed: _spawn_failed,
    events.AgentReported: _reported,
    events.AgentStopBlocked: _stop_blocked,
    events.AgentExited: _exited,
    events.AgentOverdue: _nothing,
    events.AgentKilled: _nothing,
    events.AgentIgnored: _nothing,
    events.AgentEscalated: _nothing,
    events.AgentActed: _acted,
    events.AgentActionDue: _action_due,
    events.AgentNudging: _nudging,
    events.AgentNudged: _nudged,
    events.AgentAnswering: _answering,
    events.AgentAnswered: _answered,
    events.GateStarted: _gate_started,
    events.GateFinished: _gate_finished,
    events.AgentEnding: _ending,
    events.AgentEnded: _ended,
    events.AgentsForgotten: _forgotten,
    events.JobDeleted: _forgotten,
}
"""What each fact changes of the agents."""


# --- react -----------------------------------------------------------------------------------------------------------


def _on_step_started(
    state: State, event: events.StepStarted, turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    yield from _for_step(state, state.jobs[event.job_id], event.run, turn)


def _on_step_timed_out(state: State, event: events.StepTimedOut, _turn: Turn) -> Iterator[AnyEvent]:
    agent = state.agent_of(event.job_id, event.run)
    if agent is not None:
        yield events.AgentEnding(agent_id=agent.id, why="end", error="timed out")


def _on_forgotten(_state: State, event: events.AgentsForgotten, _turn: Turn) -> Iterator[AnyEffect]:
    yield effects.ForgetAgents(job_id=event.job_id)


def _on_job_ending(state: State, event: events.JobEnding, _turn: Turn) -> Iterator[AnyEvent]:
    job = state.jobs[event.job_id]
    for agent in _live_of(state, job.id) if job.ending is not None else ():
        yield events.AgentEnding(
            agent_id=agent.id, why="end", error=job.ending.error if job.ending else ""
        )


def _on_own(state: State, event: events.AgentEvent, turn: Turn) -> Iterator[AnyEvent | AnyEffect]:
    """News of one session."""
    agent = (
        state.agents.get(event.agent_id) if not isinstance(event, events.AgentsForgotten) else None
    )
    if agent is not None:
        yield from _follow(state, agent, event, turn)


def _for_step(state: State, job: Job, number: int, turn: Turn) -> Iterator[AnyEvent | AnyEffect]:
    """A run of an agent step begins: make a session, going on with the conversation of a run that was interrupted."""
    run = job.runs[number - 1]
    step = step_of(state.definition(job), run.step)
    if not isinstance(step.run, RunAgent) or run.status is not StepStatus.RUNNING:
        return
    before = [
        agent
        for agent in state.agents.values()
        if agent.job_id == job.id and job.runs[agent.run - 1].step == run.step and agent.session_id
    ]
    session = before[-1].session_id if before and run.via == "resume" else ""
    yield events.AgentCreated(
        agent_id=AgentId(turn.fresh(PREFIXES["agent"])),
        job_id=job.id,
        run=number,
        name=step.run.agent,
        session_id=session,
        message=(job.message or CONTINUE) if session else "",
    )


def _live_of(state: State, job_id: JobId) -> list[Agent]:
    return [state.agents[id_] for id_ in state.live_agents if state.agents[id_].job_id == job_id]


def _follow(
    state: State, agent: Agent, event: AnyEvent, turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    match event:
        case events.AgentCreated():
            yield from _start_next(state, agent)
        case events.AgentStarting():
            yield _spawn(state, agent)
        case events.AgentSpawned():
            if agent.status is not AgentStatus.ENDING:
                yield _overdue(agent, turn.now)
        case events.AgentSpawnFailed(reason=reason):
            if agent.status is AgentStatus.FAILED:
                yield events.StepExited(
                    job_id=agent.job_id,
                    run=agent.run,
                    error=f"agent {agent.name!r} could not start: {reason}",
                )
                yield from _start_next(state, agent)
        case events.AgentKilled():
            yield effects.KillAgent(
                agent_id=agent.id, job_id=agent.job_id, runtime=agent.runtime, route=agent.route
            )
        case events.AgentOverdue():
            reason = f"it showed no sign of life for {START_UP_MS // 1000} s"
            yield events.AgentExited(agent_id=agent.id, reason=reason)
        case events.AgentReported(state=reported):
            yield effects.CancelTimer(key=f"startup:{agent.id}")
            match reported:
                case "working":
                    yield effects.CancelTimer(key=f"action:{agent.id}")
                case "idle":
                    yield from _trigger(state, agent, Trigger.IDLE, "idle", turn)
                case "prompt":
                    kind = (
                        agent.prompt.kind.value
                        if agent.prompt is not None
                        else PromptKind.PERMISSION.value
                    )
                    yield from _trigger(state, agent, Trigger.PROMPT, kind, turn)
                case "error":
                    yield from _trigger(state, agent, Trigger.ERROR, agent.error or "other", turn)
                case "stalled":
                    yield from _trigger(state, agent, Trigger.ERROR, STALLED, turn)
                case _:
                    pass
        case events.AgentExited():
            yield effects.CancelTimer(key=f"startup:{agent.id}")
            yield effects.CancelTimer(key=f"action:{agent.id}")
            yield from _trigger(state, agent, Trigger.DEAD, _exit_text(agent), turn)
        case events.AgentIgnored():
            yield from _trigger(state, agent, Trigger.IDLE, "idle", turn)
        case events.AgentActionDue():
            yield _action_timer(agent)
        case events.AgentActed(trigger=trigger, detail=detail):
            yield from _act(state, agent, trigger, detail)
        case events.AgentNudging():
            yield _nudge(agent)
        case events.AgentNudged(nudge=nudge, reason=""):
            yield effects.SetTimer(
                key=f"ignored:{agent.id}",
                at=turn.now + IGNORED_MS,
                fact=events.AgentIgnored(agent_id=agent.id, nudge=nudge),
            )
        case events.AgentAnswering():
            yield _give_answer(agent, event)
        case events.GateStarted():
            yield from _run_gate(state, agent)
        case events.GateFinished():
            yield from _after_gate(state, agent, event)
        case events.AgentEnding():
            for key in ("startup", "action", "ignored"):
                yield effects.CancelTimer(key=f"{key}:{agent.id}")
            yield _end(state, agent) if agent.is_ordered else events.AgentEnded(agent_id=agent.id)
        case events.AgentEnded():
            yield from _after_end(state, agent, turn)
        case _:
            pass


REACTIONS: Final[Reactions] = {
    **dict.fromkeys(get_args(events.AgentEvent), _on_own),
    events.StepStarted: _on_step_started,
    events.StepTimedOut: _on_step_timed_out,
    events.JobEnding: _on_job_ending,
    events.AgentsForgotten: _on_forgotten,
}
"""What follows for sessions now that the fact is true."""


def recover(state: State) -> Iterator[AnyEvent | AnyEffect]:
    """Orders of live sessions whose answers a crash may have eaten."""
    for agent_id in state.live_agents:
        agent = state.agents[agent_id]
        if agent.status is AgentStatus.QUEUED:
            yield from _start_next(state, agent)
            continue
        if agent.status is AgentStatus.ENDING:
            yield _end(state, agent)
            continue
        # Where the last daemon knew it to be: the executor looks there, and says so if it is gone.
        yield _spawn(state, agent)
        if agent.pending is not None:
            yield _action_timer(agent)
        if agent.seq == 0:
            yield _overdue(agent, agent.updated_at)
        if agent.nudged < agent.nudges:
            yield _nudge(agent)
        elif agent.nudges and agent.state == "idle":
            yield effects.SetTimer(
                key=f"ignored:{agent.id}",
                at=agent.updated_at + IGNORED_MS,
                fact=events.AgentIgnored(agent_id=agent.id, nudge=agent.nudges),
            )
        if agent.answering is not None:
            yield _give_answer(agent, agent.answering)
        if agent.gate is not None:
            yield from _run_gate(state, agent)


def _start_next(state: State, like: Agent) -> Iterator[AnyEvent | AnyEffect]:
    """Start queued sessions of that definition while there are slots."""
    project = state.jobs[like.job_id].project

    def same(agent: Agent) -> bool:
        return agent.name == like.name and state.jobs[agent.job_id].project == project

    for agent_id in tuple(state.live_agents):
        agent = state.agents[agent_id]
        if agent.status is not AgentStatus.QUEUED or not same(agent):
            continue
        limit = state.agent_definition(agent).max_concurrency
        busy = sum(
            1
            for id_ in state.live_agents
            if state.agents[id_].is_ordered and same(state.agents[id_])
        )
        if limit is not None and busy >= limit:
            return
        yield events.AgentStarting(agent_id=agent_id)


# --- triggers and actions --------------------------------------------------------------------------------------------


def _trigger(
    state: State, agent: Agent, trigger: Trigger, detail: str, turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    """The agent did something that its definition has an action for."""
    job = state.jobs[agent.job_id]
    if job.ending is not None or agent.status is AgentStatus.ENDING or agent.gate is not None:
        return
    if agent.pending is not None or state.decision_of(agent.job_id, agent.run) is not None:
        return
    action = action_for(state.agent_definition(agent), trigger, detail, crew=job.crew)
    done = agent.attempts.get(_counted(state.agent_definition(agent), trigger, detail), 0)
    # A dialog has to be dealt with however often one comes.
    if trigger is not Trigger.PROMPT and action.attempts is not None and done >= action.attempts:
        word = "once" if done == 1 else f"{done} times"
        yield events.AgentEscalated(
            agent_id=agent.id,
            source=_source(trigger, detail),
            detail=f"{detail}; its action {action.action} was taken {word} already",
        )
    elif action.action is AgentAction.RESUME and _sessions(state, agent) >= MAX_SESSIONS:
        yield events.AgentEscalated(
            agent_id=agent.id,
            source=_source(trigger, detail),
            detail=f"{detail}; circuit breaker: this was session {MAX_SESSIONS} of one run of the step",
        )
    elif action.action is AgentAction.RESUME and _crashes(state, agent, turn.now) >= MAX_CRASHES:
        yield events.AgentEscalated(
            agent_id=agent.id,
            source=_source(trigger, detail),
            detail=f"{detail}; circuit breaker: the last {MAX_CRASHES} sessions of agent {agent.name!r} all ended at once",
        )
    elif done and action.cooldown_ms:
        yield events.AgentActionDue(
            agent_id=agent.id, trigger=trigger, at=turn.now + action.cooldown_ms, detail=detail
        )
    else:
        yield events.AgentActed(agent_id=agent.id, trigger=trigger, detail=detail)


def _sessions(state: State, agent: Agent) -> int:
    """How many sessions the agent's run has had."""
    return sum(state.agents[id_].run == agent.run for id_ in state.job_agents[agent.job_id])


def _crashes(state: State, like: Agent, now: int) -> int:
    """How many sessions of that definition were resumed in a row, this one being the last, without one that worked or lasted."""
    project = state.jobs[like.job_id].project
    count = 0
    for agent in reversed(state.agents.values()):
        if agent.name != like.name or state.jobs[agent.job_id].project != project:
            continue
        if not agent.ended_at and agent.id != like.id:
            continue  # how it ends is not known
        if agent.ending == "done" or (agent.ended_at or now) - agent.created_at >= MIN_UPTIME_MS:
            break
        count += agent.ending == "resume"
    return count


def action_for(definition: AgentDef, trigger: Trigger, detail: str, *, crew: bool) -> ActionDef:
    """What the definition says to a trigger; an unset on_idle is `done` in a job and `escalate` for a stand-alone agent."""
    match trigger:
        case Trigger.IDLE:
            if definition.on_idle is not None:
                return definition.on_idle
            return ActionDef(action=AgentAction.ESCALATE if crew else AgentAction.DONE)
        case Trigger.DEAD:
            return definition.on_dead
        case Trigger.PROMPT:
            return definition.on_prompt
        case Trigger.ERROR:
            fitting = (action for action in definition.on_error if action.match in (None, detail))
            return next(fitting, ActionDef(action=AgentAction.ESCALATE))
        case _:
            assert_never(trigger)


def _counted(definition: AgentDef, trigger: Trigger, detail: str) -> str:
    """Under which name the attempts of an action are counted: its trigger; for errors, its place in the list."""
    if trigger is not Trigger.ERROR:
        return trigger.value
    place = next(
        (
            index
            for index, action in enumerate(definition.on_error)
            if action.match in (None, detail)
        ),
        -1,
    )
    return f"{trigger}:{place}"


def _source(trigger: Trigger, detail: str) -> DecisionSource:
    match trigger:
        case Trigger.IDLE:
            return DecisionSource.IDLE
        case Trigger.DEAD:
            return DecisionSource.DEAD
        case Trigger.ERROR:
            return DecisionSource.ERROR
        case Trigger.PROMPT:
            kinds = {
                PromptKind.QUESTION: DecisionSource.QUESTION,
                PromptKind.PLAN: DecisionSource.PLAN,
            }
            return kinds.get(PromptKind(detail), DecisionSource.APPROVAL)
        case _:
            assert_never(trigger)


def _act(
    state: State, agent: Agent, trigger: Trigger, detail: str
) -> Iterator[AnyEvent | AnyEffect]:
    job = state.jobs[agent.job_id]
    action = action_for(state.agent_definition(agent), trigger, detail, crew=job.crew)
    match action.action:
        case AgentAction.NUDGE:
            yield events.AgentNudging(
                agent_id=agent.id, nudge=agent.nudges + 1, message=_message(job, action)
            )
        case AgentAction.DONE:
            yield events.AgentEnding(agent_id=agent.id, why="done")
        case AgentAction.FAIL:
            yield events.AgentEnding(
                agent_id=agent.id, why="fail", error=_failure(agent, trigger, detail)
            )
        case AgentAction.RESUME:
            yield events.AgentEnding(
                agent_id=agent.id,
                why="resume",
                message=_message(job, action),
                fresh=action.message is not None and not action.append,
            )
        case AgentAction.ESCALATE:
            yield events.AgentEscalated(
                agent_id=agent.id, source=_source(trigger, detail), detail=detail
            )
        case AgentAction.GATE:
            yield events.GateStarted(agent_id=agent.id, gate=agent.gates + 1, trigger=trigger)
        case AgentAction.AUTO:
            pass  # the agent itself says when it is done: its stop gate opens, and the program ends
        case _:
            assert_never(action.action)


def _message(job: Job, action: ActionDef) -> str:
    if action.message is None:
        return CONTINUE
    try:
        return template.render(action.message, _values(job), job.env)
    except OjError:
        return action.message


def _failure(agent: Agent, trigger: Trigger, detail: str) -> str:
    match trigger:
        case Trigger.IDLE:
            return f"agent {agent.name!r} stopped and waits"
        case Trigger.DEAD:
            return f"agent {agent.name!r} ended: {detail}"
        case Trigger.PROMPT:
            return f"agent {agent.name!r} asked ({detail})"
        case Trigger.ERROR:
            return f"agent {agent.name!r} had an error ({detail}): {agent.detail}"
        case _:
            assert_never(trigger)


def _exit_text(agent: Agent) -> str:
    if agent.exit_reason:
        return agent.exit_reason
    return f"exit code {agent.exit_code}" if agent.exit_code is not None else "it vanished"


def _after_gate(
    state: State, agent: Agent, event: events.GateFinished
) -> Iterator[AnyEvent | AnyEffect]:
    """A gate that passes ends the step; one that does not is told to the agent while its action has attempts left."""
    if event.exit_code == 0:
        yield events.AgentEnding(agent_id=agent.id, why="done")
        return
    job = state.jobs[agent.job_id]
    definition = state.agent_definition(agent)
    idle = action_for(definition, Trigger.IDLE, "idle", crew=job.crew)
    tries = agent.attempts.get(Trigger.IDLE, 0)
    can_go_on = idle.action is AgentAction.GATE and (idle.attempts is None or tries < idle.attempts)
    if agent.is_alive and agent.state == "idle" and can_go_on:
        message = (
            _message(job, idle)
            if idle.message
            else "The check of your work did not pass. Please correct that."
        )
        yield events.AgentNudging(
            agent_id=agent.id, nudge=agent.nudges + 1, message=f"{message}\n{event.output}".rstrip()
        )
        return
    code = "no exit status" if event.exit_code is None else f"exit {event.exit_code}"
    yield events.AgentEscalated(
        agent_id=agent.id,
        source=DecisionSource.GATE,
        detail=f"the gate failed ({code}): {event.output}",
    )


def _after_end(state: State, agent: Agent, turn: Turn) -> Iterator[AnyEvent | AnyEffect]:
    job = state.jobs[agent.job_id]
    # Its step may have been ended meanwhile: then nothing follows.
    is_over = job.ending is not None or job.runs[agent.run - 1].timed_out
    match "end" if is_over and agent.ending == "resume" else agent.ending:
        case "done":
            yield events.StepExited(job_id=agent.job_id, run=agent.run, exit_code=0)
        case "fail":
            yield events.StepExited(job_id=agent.job_id, run=agent.run, error=agent.ending_error)
        case "resume":
            yield events.AgentCreated(
                agent_id=AgentId(turn.fresh(PREFIXES["agent"])),
                job_id=agent.job_id,
                run=agent.run,
                name=agent.name,
                session_id="" if agent.is_fresh else agent.session_id,
                message=agent.ending_message,
                attempts=agent.attempts,
            )
        case _:
            yield events.StepExited(
                job_id=agent.job_id, run=agent.run, error=agent.ending_error, ended=True
            )
    yield from _start_next(state, agent)


# --- orders ----------------------------------------------------------------------------------------------------------


def _overdue(agent: Agent, since: int) -> effects.SetTimer:
    return effects.SetTimer(
        key=f"startup:{agent.id}",
        at=since + START_UP_MS,
        fact=events.AgentOverdue(agent_id=agent.id),
    )


def _action_timer(agent: Agent) -> effects.SetTimer:
    trigger = agent.pending or Trigger.IDLE
    return effects.SetTimer(
        key=f"action:{agent.id}",
        at=agent.pending_at,
        fact=events.AgentActed(agent_id=agent.id, trigger=trigger, detail=agent.pending_detail),
    )


def _nudge(agent: Agent) -> effects.NudgeAgent:
    return effects.NudgeAgent(
        agent_id=agent.id,
        job_id=agent.job_id,
        runtime=agent.runtime,
        route=agent.route,
        nudge=agent.nudges,
        message=agent.nudge,
    )


def _give_answer(agent: Agent, answer: events.AgentAnswering) -> effects.AnswerAgent:
    return effects.AnswerAgent(
        agent_id=agent.id,
        job_id=agent.job_id,
        runtime=agent.runtime,
        route=agent.route,
        answer=answer,
    )


def _place(state: State, agent: Agent) -> effects.CreateWorkspace | None:
    """Where the agent works: with its job, unless its definition has a container of its own."""
    job = state.jobs[agent.job_id]
    place = place_of(state, job)
    container = state.agent_definition(agent).container
    if place is None or container is None or job.crew:
        return place
    return structs.replace(place, agent_id=agent.id, container=container, route=agent.route)


def _end(state: State, agent: Agent) -> effects.EndAgent:
    return effects.EndAgent(
        agent_id=agent.id,
        job_id=agent.job_id,
        runtime=agent.runtime,
        route=agent.route,
        session_id=agent.session_id,
        place=_place(state, agent),
    )


def _run_gate(state: State, agent: Agent) -> Iterator[AnyEvent | AnyEffect]:
    """The order to run the gate's command, or the fact that it cannot run."""
    job = state.jobs[agent.job_id]
    trigger = agent.gate or Trigger.IDLE
    detail = agent.error if trigger is Trigger.ERROR else trigger.value
    shell = action_for(state.agent_definition(agent), trigger, detail, crew=job.crew).run
    values = _values(job)
    try:
        if shell is None:
            raise OjError("the gate has no command")
        check_place(state, job)
        env = template.resolve(shell.bindings, values)
        script = shell.script
    except OjError as error:
        yield events.GateFinished(
            agent_id=agent.id, gate=agent.gates, exit_code=None, output=error.message
        )
        return
    yield effects.RunGate(
        agent_id=agent.id,
        job_id=job.id,
        gate=agent.gates,
        script=script,
        env={**job.env, **env, **_own(job, agent)},
        cwd=values["workspace"],
        place=_place(state, agent),
    )


def _spawn(state: State, agent: Agent) -> AnyEvent | AnyEffect:
    """The order to start the session or to find it again, or the fact that it cannot start."""
    job = state.jobs[agent.job_id]
    definition = state.agent_definition(agent)
    run = job.runs[agent.run - 1]
    values = {**_values(job), "agent_id": agent.id, "step": run.step}
    try:
        if not agent.route:  # else it is only looked for
            check_place(state, job)
        prompt = (
            template.render(definition.prompt, values, job.env)
            if definition.prompt is not None
            else ""
        )
        values["prompt"] = prompt
        env = {
            name: template.render(text, values, job.env) for name, text in definition.env.items()
        }
        bound = template.resolve(definition.run.bindings, values)
        prime: dict[str, str] = {}
        prime_env: dict[str, str] = {}
        for index, (source, shell) in enumerate(definition.prime.items()):
            # Each script was compiled by itself, so its variables need names of their own among the others.
            own = f"OJ_P{index}_"
            script = shell.script
            prime[source] = "set -euo pipefail\n" + script.replace("OJ_V", own)
            resolved = template.resolve(shell.bindings, values)
            prime_env |= {name.replace("OJ_V", own): value for name, value in resolved.items()}
        directory = values["workspace"]
        if definition.cwd is not None:
            directory = _join(directory, template.render(definition.cwd, values, job.env))
    except OjError as error:
        return events.AgentSpawnFailed(agent_id=agent.id, reason=error.message)
    stop, stop_prompt = _stop(definition, crew=job.crew)
    return effects.SpawnAgent(
        agent_id=agent.id,
        job_id=job.id,
        label=run.step,
        driver=definition.driver,
        script=definition.run.script,
        env={**job.env, **env, **bound, **_own(job, agent)},
        cwd=directory,
        prompt=prompt,
        prompt_file=_join(job.project_root, definition.prompt_file)
        if definition.prompt_file
        else "",
        values=values if definition.prompt_file else {},
        session_id=agent.session_id,
        message=agent.message,
        stop=stop,
        stop_prompt=stop_prompt,
        prime=prime,
        prime_env=prime_env,
        extra={} if definition.screen is None else {"screen": structs.asdict(definition.screen)},
        runtime=agent.runtime,
        route=agent.route,
        seq=agent.seq,
        place=_place(state, agent),
    )


def _stop(definition: AgentDef, *, crew: bool) -> tuple[str, str]:
    """What the sidecar does when the agent wants to end its turn: mode and text.

    A nudge that can be given at that moment saves a turn, so it is (and counts), unless it has to keep its distance. A
    gate lets the turn end: its command decides, and an agent should not hear that a check failed which has not run.
    """
    action = action_for(definition, Trigger.IDLE, "idle", crew=crew)
    match action.action:
        case AgentAction.NUDGE if not action.cooldown_ms:
            return "gate", action.message or CONTINUE
        case AgentAction.ESCALATE:
            text = action.message or "Before you end your turn:"
            return (
                "gate",
                f"{text} If you need something from a human, ask with the AskUserQuestion tool.",
            )
        case AgentAction.AUTO:
            return "auto", action.message or ""
        case _:
            return "allow", ""


def _own(job: Job, agent: Agent) -> dict[str, str]:
    step = job.runs[agent.run - 1].step
    return {
        "OJ_PROJECT": job.project,
        "OJ_JOB_ID": job.id,
        "OJ_STEP_NAME": step,
        "OJ_AGENT_ID": agent.id,
    }


def _values(job: Job) -> dict[str, str]:
    """What templates of the agent's job may refer to."""
    root = job.vars.get("source.root", job.cwd)
    owner = "crew_id" if job.crew else "job_id"
    return {**job.vars, owner: job.id, "name": job.name, "workspace": root}


def _join(base: str, path: str) -> str:
    return path if path.startswith("/") else f"{base.rstrip('/')}/{path}" if path else base
