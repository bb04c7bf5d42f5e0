"""Facts -> the lines of a job's log.

Rule: pure, and after the fact: the log tells what the write-ahead log already holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, get_args

from oj_daemon.core import events
from oj_daemon.core.job import label_of
from oj_daemon.core.state import Agent, Decision, Job, State, step_of
from oj_daemon.runbook.model import RunShell
from oj_daemon.wire.names import JobId, JobStatus, StepStatus, WorkspaceKind, short_id

JOB: Final = "job"
"""Label of lines about the job as a whole."""


def narrate(state: State, event: events.AnyEvent) -> Iterator[tuple[JobId, str, str]]:
    """Yield job, label and text; `state` may already be further than the fact."""
    tell = _TELLERS.get(type(event))
    if tell is not None:
        yield from tell(state, event)


def _of_workspace(state: State, event: events.WorkspaceEvent) -> Iterator[tuple[JobId, str, str]]:
    match event:
        case events.WorkspaceCreated(job_id=job_id, path=path, branch=branch):
            on_branch = f" on branch {branch}" if branch else ""
            of_what = ""
            if event.kind is WorkspaceKind.CLONE:
                of_what = f", a clone of {event.repo}" + (
                    f" at {event.start}" if event.start else ""
                )
            yield job_id, JOB, f"creating workspace {path}{on_branch}{of_what}"
        case events.WorkspaceReady(workspace_id=workspace_id, notes=notes) if notes:
            workspace = state.workspaces.get(workspace_id)
            if workspace is not None:
                for text in notes:
                    yield workspace.job_id, JOB, text
        case events.WorkspaceWaits(workspace_id=workspace_id, reason=reason) if reason:
            workspace = state.workspaces.get(workspace_id)
            if workspace is not None and workspace.job_id in state.jobs:
                yield workspace.job_id, JOB, f"its place waits: {reason}"
        case events.WorkspaceMoved(workspace_id=workspace_id, note=note) if note:
            workspace = state.workspaces.get(workspace_id)
            if workspace is not None and workspace.job_id in state.jobs:
                yield workspace.job_id, JOB, note
        case events.WorkspaceKept(workspace_id=workspace_id, reason=reason):
            workspace = state.workspaces.get(workspace_id)
            if workspace is not None and workspace.job_id in state.jobs:
                drop = f"oj workspace drop {short_id(workspace_id)}"
                yield workspace.job_id, JOB, f"workspace kept: {reason}; to remove it: {drop}"
        case events.WorkspaceFailed(workspace_id=workspace_id, reason=reason):
            workspace = state.workspaces.get(workspace_id)
            if workspace is not None:
                yield workspace.job_id, JOB, f"workspace failed: {reason}"
        case events.WorkspaceDeleted(job_id=job_id, note=note):
            # Of a job that is gone there is no log that could still be removed.
            if note and job_id in state.jobs:
                yield job_id, JOB, note
        case _:
            return


def _of_its_job(state: State, event: events.JobEvent) -> Iterator[tuple[JobId, str, str]]:
    job = state.jobs.get(event.job_id)
    for label, text in _of_job(state, job, event) if job is not None else ():
        yield event.job_id, label, text


def _of_its_agent(state: State, event: events.AgentEvent) -> Iterator[tuple[JobId, str, str]]:
    if isinstance(event, events.AgentsForgotten):
        return
    agent = state.agents.get(event.agent_id)
    if agent is not None and agent.job_id in state.jobs:
        for text in _of_agent(agent, event):
            yield agent.job_id, _label(state.jobs[agent.job_id], agent.run), text


def _of_its_decision(state: State, event: events.DecisionEvent) -> Iterator[tuple[JobId, str, str]]:
    decision = state.decisions.get(event.decision_id)
    if decision is not None and decision.job_id in state.jobs:
        for text in _of_decision(decision, event):
            yield decision.job_id, _label(state.jobs[decision.job_id], decision.run), text


def _of_agent(agent: Agent, event: events.AgentEvent) -> Iterator[str]:
    short = short_id(agent.id)
    match event:
        case events.AgentCreated(session_id=session):
            yield f"agent {agent.name} ({short}): see oj agent logs {short}" + (
                f"; goes on with conversation {session}" if session else ""
            )
        case events.AgentSpawned():
            yield "agent started"
        case events.AgentSpawnFailed(reason=reason):
            yield f"agent could not start: {reason}"
        case events.AgentReported(state=reported, detail=detail):
            yield f"agent is {reported}" + (f": {detail}" if detail else "")
        case events.AgentStopBlocked():
            yield "the agent wanted to stop and was told to go on"
        case events.AgentExited(exit_code=code, reason=reason):
            yield f"agent exited ({reason or f'exit code {code}'})"
        case events.AgentActed(trigger=trigger, detail=detail):
            yield f"acting on {trigger}" + (f" ({detail})" if detail != trigger else "")
        case events.AgentActionDue(trigger=trigger):
            yield f"the action for {trigger} waits for its cooldown"
        case events.AgentNudging(message=message):
            yield f"tells the agent: {message}"
        case events.AgentNudged(reason=reason) if reason:
            yield f"the message did not arrive: {reason}"
        case events.AgentAnswered(reason=reason):
            yield f"the answer did not arrive: {reason}" if reason else "the answer arrived"
        case events.GateStarted():
            yield "gate started"
        case events.GateFinished(exit_code=code, output=output):
            yield f"gate ended (exit {code})" + (f": {output}" if output else "")
        case events.AgentEnding(why=why):
            yield f"ending the agent ({why})"
        case events.AgentEnded():
            yield "agent ended"
        case _:
            return


def _of_decision(decision: Decision, event: events.DecisionEvent) -> Iterator[str]:
    short = short_id(decision.id)
    match event:
        case events.DecisionCreated(source=source):
            yield f"decision needed ({source}): oj decision show {short}"
        case events.DecisionResolved(by=by, choices=choices, message=message):
            chosen = "; ".join(",".join(str(number) for number in each) for each in choices)
            yield f"decided by {by or 'someone'}: {' '.join(part for part in (chosen, message) if part)}"
        case events.DecisionClosed(why=why):
            yield f"decision closed: {why}"
        case events.DecisionReopened():
            yield f"decision reopened: oj decision show {short}"
        case events.DecisionExpired():
            yield "the deadline of the decision passed"


def _of_job(state: State, job: Job, event: events.JobEvent) -> Iterator[tuple[str, str]]:
    match event:
        case events.JobCreated():
            yield JOB, f"job created: {job.kind} {job.name}"
            if event.checkout is not None and event.checkout.note:
                yield JOB, event.checkout.note
        case events.JobEnding(why="fail", error=error):
            yield JOB, f"job failed: {error}" if event.final else error
        case events.JobEnding(why=why):
            yield JOB, f"{why} requested"
        case events.JobResumed(steps=steps):
            yield JOB, f"resumed at {', '.join(steps)}"
        case events.JobFinished(status=status, error=error):
            yield (
                JOB,
                f"job {status}" + (f": {error}" if error and status is not JobStatus.DONE else ""),
            )
        case events.StepStarted(run=number, via=via, step=step):
            if via in ("done", "job_done", "fail", "cancel", "join"):
                yield JOB, f"advancing to {step}"
            label = _label(job, number)
            yield label, "step started" + (f" (try {event.attempt})" if event.attempt > 1 else "")
        case events.StepTimedOut(run=number):
            yield _label(job, number), "timeout reached; ending it"
        case events.StepRetryScheduled(step=step, attempt=attempt):
            yield JOB, f"{step} will be tried again (try {attempt})"
        case events.StepExited(run=number, exit_code=code):
            run = job.run_of(number)
            if run is None:
                return
            word = {StepStatus.DONE: "completed", StepStatus.FAILED: "failed"}.get(
                run.status, str(run.status)
            )
            is_shell = isinstance(step_of(state.definition(job), run.step).run, RunShell)
            shown = f" (exit {code})" if code is not None and is_shell else ""
            yield (
                _label(job, number),
                f"{'shell' if is_shell else 'step'} {word}{shown}"
                + (f": {event.error}" if event.error else ""),
            )
        case _:
            return


def _label(job: Job, number: int) -> str:
    run = job.run_of(number)
    return label_of(job, run) if run is not None else JOB


_TELLERS: Final[dict[type, Callable[..., Iterator[tuple[JobId, str, str]]]]] = {
    **dict.fromkeys(get_args(events.WorkspaceEvent), _of_workspace),
    **dict.fromkeys(get_args(events.JobEvent), _of_its_job),
    **dict.fromkeys(get_args(events.AgentEvent), _of_its_agent),
    **dict.fromkeys(get_args(events.DecisionEvent), _of_its_decision),
}
"""Who tells of a fact; there is nothing to tell of what is not about a job."""
