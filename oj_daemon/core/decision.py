"""Decisions: questions to a human, each about one run of an agent step.

Rule: at most one is open about a run. An answer is checked against what was asked before it is acknowledged, is bound to the
dialog that was shown, and reaches the session as data, never as typed text. A decision that nobody needs any more (the agent
went on, someone answered at its terminal, it ended) closes itself and says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, assert_never

import msgspec
from msgspec import structs

from oj_daemon.core import effects, events
from oj_daemon.core.effects import AnyEffect
from oj_daemon.core.events import AnyEvent, Choice, Question
from oj_daemon.core.state import Agent, Answer, Changes, Decision, Job, Reactions, State, Turn
from oj_daemon.core.views import title
from oj_daemon.errors import Rejected
from oj_daemon.runbook.model import ActionDef, AgentAction, AgentDef
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import (
    PREFIXES,
    DecisionId,
    DecisionSource,
    DecisionStatus,
    Trigger,
    short_id,
)

CONTEXT_LENGTH: Final = 2000
"""Characters of an agent's last message in a decision's context (spec 5.3)."""

NUDGE, RETRY, DONE, SKIP = "Nudge", "Retry", "Done", "Skip"
CANCEL, DISMISS = "Cancel", "Dismiss"
APPROVE, DENY, OTHER, REVISE = "Approve", "Deny", "Other", "Revise"
ACCEPTS: Final = ("Accept (clear context)", "Accept (auto edits)", "Accept (manual edits)")

OPTIONS: Final = {
    DecisionSource.IDLE: (NUDGE, DONE, CANCEL, DISMISS),
    DecisionSource.DEAD: (RETRY, SKIP, CANCEL, DISMISS),
    DecisionSource.ERROR: (RETRY, SKIP, CANCEL, DISMISS),
    DecisionSource.GATE: (RETRY, SKIP, CANCEL),
    DecisionSource.APPROVAL: (APPROVE, DENY, CANCEL, DISMISS),
    DecisionSource.PLAN: (*ACCEPTS, REVISE, CANCEL),
    DecisionSource.QUESTION: (OTHER, CANCEL, DISMISS),
}
"""What can be chosen (spec 5.1); for one question its own options come first."""
RECOMMENDED: Final = frozenset({NUDGE, RETRY, ACCEPTS[0]})
LIVE: Final = frozenset(
    {DecisionSource.IDLE, DecisionSource.QUESTION, DecisionSource.PLAN, DecisionSource.APPROVAL}
)
"""Sources that make no sense once the agent's program has ended."""


# --- admit -----------------------------------------------------------------------------------------------------------


def admit(state: State, request: requests.DecisionRequest) -> Answer:
    """Decide whether an answer fits; raises Rejected when it does not."""
    match request:
        case requests.DecisionResolve():
            return _admit_resolve(state, request)
        case requests.DecisionReopen(id=ref):
            decision = state.find_decision(ref)
            if decision.status is not DecisionStatus.DISMISSED:
                raise Rejected(
                    f"decision {short_id(decision.id)} is {decision.status}, not dismissed",
                    code="conflict",
                    hint=f"oj decision show {short_id(decision.id)}",
                )
            return Answer(
                replies.DecisionResolved(id=decision.id),
                [events.DecisionReopened(decision_id=decision.id)],
            )
        case _:
            assert_never(request)


def _admit_resolve(state: State, request: requests.DecisionResolve) -> Answer:
    decision = state.find_decision(request.id)
    short = short_id(decision.id)
    if decision.status is not DecisionStatus.OPEN:
        said = {
            DecisionStatus.RESOLVED: "is already resolved",
            DecisionStatus.DISMISSED: "was dismissed",
        }
        raise Rejected(
            f"decision {short} {said.get(decision.status, f'is obsolete: {decision.note}')}",
            code="conflict",
            hint=f"oj decision reopen {short}"
            if decision.status is DecisionStatus.DISMISSED
            else "oj decision list",
        )
    if not request.choices and not request.message:
        raise Rejected(
            f"decision {short} needs a choice or a message",
            code="invalid",
            hint=f"oj decision show {short}",
        )
    _check_choices(decision, request.choices)
    _check_message(decision, request)
    if _label(decision, request.choices) == DISMISS:
        why = f"dismissed by {request.by or 'someone'}"
        dismissed = events.DecisionClosed(decision_id=decision.id, why=why, dismissed=True)
        return Answer(replies.DecisionResolved(id=decision.id), [dismissed])
    fact = events.DecisionResolved(
        decision_id=decision.id,
        choices=request.choices,
        message=request.message,
        by=request.by,
        channel=request.channel,
    )
    return Answer(replies.DecisionResolved(id=decision.id), [fact])


def _check_choices(decision: Decision, choices: Sequence[tuple[int, ...]]) -> None:
    if not choices:
        return
    hint = f"oj decision show {short_id(decision.id)}"
    if len(decision.questions) > 1:
        if len(choices) != len(decision.questions):
            raise Rejected(
                f"expected {len(decision.questions)} choices (one per question), got {len(choices)}",
                code="invalid",
                hint=hint,
            )
        for number, (question, chosen) in enumerate(
            zip(decision.questions, choices, strict=True), 1
        ):
            _check_numbers(
                chosen,
                len(question.options) + 1,
                question.multi_select,
                f"question {number}: ",
                hint=hint,
            )
        return
    if len(choices) > 1:
        raise Rejected(f"expected one choice, got {len(choices)}", code="invalid", hint=hint)
    several = len(decision.questions) == 1 and decision.questions[0].multi_select
    _check_numbers(choices[0], len(decision.options), several, "", hint=hint)


def _check_message(decision: Decision, request: requests.DecisionResolve) -> None:
    """Some choices say nothing by themselves."""
    label = _label(decision, request.choices)
    if len(decision.questions) > 1 and any(
        len(question.options) + 1 in chosen
        for question, chosen in zip(decision.questions, request.choices, strict=False)
    ):
        label = OTHER
    if label in (OTHER, REVISE) and not request.message:
        raise Rejected(
            f"{label} needs a message that says what instead",
            code="invalid",
            hint=f"oj decision resolve {short_id(decision.id)} ... -m TEXT",
        )


def _check_numbers(
    chosen: Sequence[int], count: int, several: bool, where: str, *, hint: str
) -> None:
    if not chosen or (len(chosen) > 1 and not several):
        raise Rejected(f"{where}expected one choice, got {len(chosen)}", code="invalid", hint=hint)
    for number in chosen:
        if not 1 <= number <= count:
            raise Rejected(
                f"{where}choice {number} out of range (1..{count})", code="invalid", hint=hint
            )


# --- accepts, apply --------------------------------------------------------------------------------------------------


def accepts(state: State, event: events.DecisionEvent) -> bool:
    """Whether the fact may still become true."""
    if isinstance(event, events.DecisionCreated):
        return (
            state.decision_of(event.job_id, event.run) is None
            and event.agent_id in state.live_agents
        )
    decision = state.decisions.get(event.decision_id)
    if decision is None:
        return False
    if isinstance(event, events.DecisionReopened):
        return (
            decision.status is DecisionStatus.DISMISSED
            and decision.agent_id in state.live_agents
            and state.decision_of(decision.job_id, decision.run) is None
        )
    if isinstance(event, events.DecisionClosed) and decision.status is DecisionStatus.DISMISSED:
        return not event.dismissed
    return decision.status is DecisionStatus.OPEN


def _created(state: State, event: events.DecisionCreated, at: int) -> None:
    state.put_decision(
        Decision(
            id=event.decision_id,
            agent_id=event.agent_id,
            job_id=event.job_id,
            run=event.run,
            source=event.source,
            context=event.context,
            options=event.options,
            questions=event.questions,
            prompt=event.prompt,
            deadline_at=event.deadline_at,
            default=event.default,
            created_at=at,
        )
    )


def _resolved(state: State, event: events.DecisionResolved, at: int) -> None:
    state.put_decision(
        structs.replace(
            state.decisions[event.decision_id],
            status=DecisionStatus.RESOLVED,
            choices=event.choices,
            message=event.message,
            by=event.by,
            channel=event.channel,
            resolved_at=at,
        )
    )


def _closed(state: State, event: events.DecisionClosed, at: int) -> None:
    status = DecisionStatus.DISMISSED if event.dismissed else DecisionStatus.OBSOLETE
    decision = state.decisions[event.decision_id]
    state.put_decision(structs.replace(decision, status=status, note=event.why, resolved_at=at))


def _reopened(state: State, event: events.DecisionReopened, at: int) -> None:  # noqa: ARG001 - the table's signature
    decision = state.decisions[event.decision_id]
    state.put_decision(
        structs.replace(
            decision,
            status=DecisionStatus.OPEN,
            note="",
            choices=(),
            message="",
            deadline_at=0,
            resolved_at=0,
        )
    )


def _expired(state: State, event: events.DecisionExpired, at: int) -> None:  # noqa: ARG001 - the table's signature
    decision = state.decisions[event.decision_id]
    state.put_decision(
        structs.replace(decision, note="nobody answered until its deadline", deadline_at=0)
    )


def _answered(state: State, event: events.AgentAnswered, at: int) -> None:  # noqa: ARG001 - the table's signature
    if not event.reason:
        return
    for decision in reversed(state.decisions.values()):
        if decision.agent_id == event.agent_id and decision.prompt == event.prompt:
            state.put_decision(
                structs.replace(decision, note=f"the answer did not arrive: {event.reason}")
            )
            return


def _job_deleted(state: State, event: events.JobDeleted, at: int) -> None:  # noqa: ARG001 - the table's signature
    for decision_id in [
        id_ for id_, each in state.decisions.items() if each.job_id == event.job_id
    ]:
        del state.decisions[decision_id]
        state.open_decisions.pop(decision_id, None)
        state.undecided.pop(decision_id, None)


CHANGES: Final[Changes] = {
    events.DecisionCreated: _created,
    events.DecisionResolved: _resolved,
    events.DecisionClosed: _closed,
    events.DecisionReopened: _reopened,
    events.DecisionExpired: _expired,
    events.AgentAnswered: _answered,
    events.JobDeleted: _job_deleted,
}
"""What each fact changes of the decisions."""


# --- react -----------------------------------------------------------------------------------------------------------


def _on_escalated(state: State, event: events.AgentEscalated, turn: Turn) -> Iterator[AnyEvent]:
    yield _ask(state, state.agents[event.agent_id], event.source, event.detail, turn)


def _on_reported(state: State, event: events.AgentReported, _turn: Turn) -> Iterator[AnyEvent]:
    agent = state.agents[event.agent_id]
    for decision in _waiting(state, agent):
        gone = decision.prompt and (agent.prompt is None or agent.prompt.seq != decision.prompt)
        if gone:
            yield _close(decision, "answered at the agent's terminal")
        elif (
            agent.state == "working"
            and not decision.prompt
            and decision.source is not DecisionSource.GATE
        ):
            yield _close(decision, "auto-dismissed: agent became active")


def _on_exited(state: State, event: events.AgentExited, _turn: Turn) -> Iterator[AnyEvent]:
    for decision in _waiting(state, state.agents[event.agent_id]):
        if decision.source in LIVE:
            yield _close(decision, "auto-dismissed: agent exited")


def _on_agent_ending(state: State, event: events.AgentEnding, _turn: Turn) -> Iterator[AnyEvent]:
    for decision in _waiting(state, state.agents[event.agent_id]):
        yield _close(decision, "auto-dismissed: the agent is being ended")


def _on_job_resumed(state: State, event: events.JobResumed, _turn: Turn) -> Iterator[AnyEvent]:
    for decision in state.undecided_of(event.job_id):
        yield _close(decision, "auto-dismissed by job resume")


def _on_open(
    state: State, event: events.DecisionCreated | events.DecisionReopened, _turn: Turn
) -> Iterator[AnyEffect]:
    decision = state.decisions[event.decision_id]
    if decision.deadline_at:
        yield _deadline(decision)


def _on_expired(
    state: State, event: events.DecisionExpired, _turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    yield from _expire(state.decisions[event.decision_id])


def _on_resolved(
    state: State, event: events.DecisionResolved, _turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    yield effects.CancelTimer(key=f"decision:{event.decision_id}")
    yield from _carry_out(state, state.decisions[event.decision_id])


def _on_closed(_state: State, event: events.DecisionClosed, _turn: Turn) -> Iterator[AnyEffect]:
    yield effects.CancelTimer(key=f"decision:{event.decision_id}")


REACTIONS: Final[Reactions] = {
    events.AgentEscalated: _on_escalated,
    events.AgentReported: _on_reported,
    events.AgentExited: _on_exited,
    events.AgentEnding: _on_agent_ending,
    events.JobResumed: _on_job_resumed,
    events.DecisionCreated: _on_open,
    events.DecisionReopened: _on_open,
    events.DecisionExpired: _on_expired,
    events.DecisionResolved: _on_resolved,
    events.DecisionClosed: _on_closed,
}
"""What follows for decisions now that the fact is true."""


def recover(state: State) -> Iterator[AnyEvent | AnyEffect]:
    """Deadlines of open decisions."""
    for decision_id in state.open_decisions:
        if state.decisions[decision_id].deadline_at:
            yield _deadline(state.decisions[decision_id])


def _waiting(state: State, agent: Agent) -> list[Decision]:
    """Decisions about the agent that are open or were put aside."""
    return [
        decision for decision in state.undecided_of(agent.job_id) if decision.agent_id == agent.id
    ]


def _close(decision: Decision, why: str) -> events.DecisionClosed:
    return events.DecisionClosed(decision_id=decision.id, why=why)


def _deadline(decision: Decision) -> effects.SetTimer:
    return effects.SetTimer(
        key=f"decision:{decision.id}",
        at=decision.deadline_at,
        fact=events.DecisionExpired(decision_id=decision.id),
    )


def _ask(
    state: State, agent: Agent, source: DecisionSource, detail: str, turn: Turn
) -> events.DecisionCreated:
    job = state.jobs[agent.job_id]
    prompt = (
        agent.prompt
        if source in (DecisionSource.APPROVAL, DecisionSource.QUESTION, DecisionSource.PLAN)
        else None
    )
    questions = prompt.questions if prompt is not None else ()
    labels = OPTIONS[source]
    own = questions[0].options if len(questions) == 1 else ()
    timeout, default = _escalation(state.agent_definition(agent), source, agent)
    return events.DecisionCreated(
        decision_id=DecisionId(turn.fresh(PREFIXES["decision"])),
        agent_id=agent.id,
        job_id=agent.job_id,
        run=agent.run,
        source=source,
        context=_context(agent, job, source, detail),
        options=(
            *own,
            *(Choice(label=label, recommended=label in RECOMMENDED) for label in labels),
        ),
        questions=questions,
        prompt=prompt.seq if prompt is not None else 0,
        deadline_at=turn.now + timeout if timeout else 0,
        default=default,
    )


def _escalation(definition: AgentDef, source: DecisionSource, agent: Agent) -> tuple[int, str]:
    """Deadline and default of the definition's escalation for such a decision."""
    asked: tuple[ActionDef | None, ...]
    match source:
        case DecisionSource.IDLE:
            asked = (definition.on_idle,)
        case DecisionSource.DEAD:
            # Errors that were acted on often enough end in the question what to do with a dead agent.
            asked = (definition.on_dead, *definition.on_error)
        case DecisionSource.ERROR:
            asked = definition.on_error
        case DecisionSource.GATE:
            asked = (definition.on_dead,) if agent.has_exited else (definition.on_idle,)
        case _:
            asked = (definition.on_prompt,)
    for action in asked:
        if action is not None and action.action is AgentAction.ESCALATE and action.timeout_ms:
            return action.timeout_ms, action.default or ""
    return 0, ""


def _context(agent: Agent, job: Job, source: DecisionSource, detail: str) -> str:
    who = f"Agent {agent.name}" if job.crew else f'Agent {agent.name} in job "{title(job)}"'
    why = f" ({detail})" if detail not in ("", "idle") else ""
    headline = {
        DecisionSource.IDLE: f"{who} is idle and waits{why}.",
        DecisionSource.DEAD: f"{who} exited unexpectedly: {detail}.",
        DecisionSource.ERROR: f"{who} had an error: {detail}. {agent.detail}".rstrip(),
        DecisionSource.GATE: f"{who} did not pass its gate: {detail}",
        DecisionSource.APPROVAL: f"{who} asks for permission.",
        DecisionSource.QUESTION: f"{who} is asking a question.",
        DecisionSource.PLAN: f"{who} is requesting plan approval.",
    }[source]
    parts = [headline]
    prompt = agent.prompt
    if prompt is not None and source is DecisionSource.APPROVAL:
        asked = _readable(prompt.input)
        parts.append((f"{prompt.tool}: {asked}" if prompt.tool else asked)[:CONTEXT_LENGTH])
    if prompt is not None and source is DecisionSource.QUESTION:
        parts += [f"[{question.header}] {question.question}" for question in prompt.questions]
    if prompt is not None and source is DecisionSource.PLAN:
        parts.append(f"Plan:\n{_readable(prompt.input)}"[:CONTEXT_LENGTH])
    elif agent.last_message:
        parts.append(f"Last agent message:\n{agent.last_message[:CONTEXT_LENGTH]}")
    return "\n\n".join(parts)


def _readable(given: str) -> str:
    """What a tool was given, for people: the one text of it, or each value with its name; no JSON, where that can be."""
    try:
        values = msgspec.json.decode(given, type=dict[str, object])
    except msgspec.MsgspecError:
        return given
    shown = [
        (name, value if isinstance(value, str) else msgspec.json.encode(value).decode())
        for name, value in values.items()
    ]
    # A plan, and the command of a shell tool, come with names that tell nothing.
    main = next((value for name, value in shown if name in ("plan", "command")), "")
    if main or len(shown) == 1:
        return main or shown[0][1]
    return "\n".join(f"{name}: {value}" for name, value in shown)


def _expire(decision: Decision) -> Iterator[AnyEvent]:
    """The deadline passed: choose the default, if there is one; else people are told once more."""
    if decision.default == DISMISS.lower():
        why = "dismissed: nobody answered until its deadline"
        yield events.DecisionClosed(decision_id=decision.id, why=why, dismissed=True)
        return
    number = _default(decision)
    if number:
        yield events.DecisionResolved(
            decision_id=decision.id, choices=((number,),), by="deadline", channel="deadline"
        )


SAME: Final = {"skip": "done", "done": "skip"}
"""What a runbook may call an option that bears another label in some decisions."""


def _default(decision: Decision) -> int:
    """The number of the option that is chosen when nobody answers; 0 when it is not among them."""
    own = len(decision.options) - len(OPTIONS[decision.source])
    for word in (decision.default, SAME.get(decision.default, "")):
        for number, choice in enumerate(decision.options[own:], own + 1):
            if word and choice.label.lower() == word:
                return number
    return 0


# --- what a decision does ---------------------------------------------------------------------------------------------


def _carry_out(state: State, decision: Decision) -> Iterator[AnyEvent | AnyEffect]:
    agent = state.agents[decision.agent_id]
    label = _label(decision, decision.choices)
    message = decision.message
    if label == CANCEL and state.jobs[decision.job_id].cancelling:
        # The clean-up after a cancel cannot be cancelled, but its step can be given up.
        yield events.AgentEnding(agent_id=agent.id, why="fail", error="given up by decision")
        return
    if label == CANCEL:
        yield events.JobEnding(job_id=decision.job_id, why="cancel", error="cancelled by decision")
        return
    match decision.source:
        case DecisionSource.IDLE | DecisionSource.DEAD | DecisionSource.ERROR | DecisionSource.GATE:
            if label in (DONE, SKIP):
                yield events.AgentEnding(agent_id=agent.id, why="done")
            elif decision.source is DecisionSource.GATE and label == RETRY:
                yield events.GateStarted(
                    agent_id=agent.id, gate=agent.gates + 1, trigger=_gate_trigger(state, agent)
                )
            elif decision.source is DecisionSource.IDLE and agent.is_alive:
                yield events.AgentNudging(
                    agent_id=agent.id,
                    nudge=agent.nudges + 1,
                    message=message or "Please continue with the task.",
                )
            else:
                yield events.AgentEnding(
                    agent_id=agent.id,
                    why="resume",
                    message=message or "Please continue with the task.",
                )
        case DecisionSource.APPROVAL | DecisionSource.PLAN | DecisionSource.QUESTION:
            yield _answer(decision, label, message)
        case _:
            assert_never(decision.source)


def _gate_trigger(state: State, agent: Agent) -> Trigger:
    definition = state.agent_definition(agent)
    if agent.has_exited and definition.on_dead.action is AgentAction.GATE:
        return Trigger.DEAD
    return Trigger.IDLE


def _label(decision: Decision, choices: Sequence[tuple[int, ...]]) -> str:
    """Which of our own options was chosen; empty for a message alone and for the options of a question."""
    # Fewer choices than questions: only a deadline answers several questions by one of our own options.
    if not choices or len(choices) == len(decision.questions) > 1:
        return ""
    number = choices[0][0]
    own = len(decision.options) - len(OPTIONS[decision.source])
    return decision.options[number - 1].label if number > own else ""


def _answer(decision: Decision, label: str, message: str) -> events.AgentAnswering:
    to = decision.agent_id, decision.prompt
    match decision.source:
        case DecisionSource.APPROVAL:
            return events.AgentAnswering(
                agent_id=to[0], prompt=to[1], accept=label == APPROVE, text=message
            )
        case DecisionSource.PLAN:
            accept = label in ACCEPTS
            option = ACCEPTS.index(label) + 1 if accept else None
            return events.AgentAnswering(
                agent_id=to[0], prompt=to[1], accept=accept, option=option, text=message
            )
        case _:
            answers = tuple(_answers(decision, message))
            return events.AgentAnswering(agent_id=to[0], prompt=to[1], answers=answers)


def _answers(decision: Decision, message: str) -> Iterator[events.QuestionAnswer]:
    """For each question the numbers chosen; the message stands for Other and for no choice."""
    for index, question in enumerate(decision.questions or (Question(question=""),)):
        chosen = decision.choices[index] if index < len(decision.choices) else ()
        numbers = tuple(number for number in chosen if number <= len(question.options))
        yield events.QuestionAnswer(options=numbers, text="" if numbers else message)
