"""State -> what screens show: the whole read side.

Rule: a view reads records and never computes what a record could hold; every state says why (`reason`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from oj_daemon.core.events import Choice
from oj_daemon.core.state import Agent, Decision, Job, Run, State, Token, Workspace
from oj_daemon.runbook.model import RunAgent
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import (
    TERMINAL,
    AgentStatus,
    DecisionSource,
    DecisionStatus,
    JobStatus,
    StepStatus,
    WorkspaceStatus,
    short_id,
)

SHOWN_SCOPES: Final = ("var.", "local.", "source.", "invoke.", "args.")
RECENT_MS: Final = 12 * 3_600_000
"""How long a failure is shown by `oj status`."""
RECENT_FAILURES: Final = 5
"""How many failures `oj status` shows for a project."""


def title(job: Job) -> str:
    """What to call a job: its name; one that was given none is called by its kind."""
    return job.kind if job.name == job.id else job.name


_SUBJECT: Final = re.compile(r'^Agent \S+( in job "[^"]*")? ')


def step_word(job: Job) -> str:
    """What the STEP column says."""
    active = job.active
    if active:
        return ",".join(run.step for run in active)
    if job.status is JobStatus.DONE:
        return "done"
    if job.status is JobStatus.SUSPENDED and job.resume_point is not None:
        return ",".join(job.resume_point.steps)
    if job.status is JobStatus.FAILED:
        failed = [run.step for run in job.runs if run.status is StepStatus.FAILED]
        if failed:
            return failed[-1]
    if job.runs:
        return job.runs[-1].step
    return ",".join(job.starting)


def step_status(job: Job) -> str:
    """What the STATUS of that step is."""
    active = job.active
    if job.status is JobStatus.RUNNING and active:
        return (
            StepStatus.PENDING
            if all(run.status is StepStatus.PENDING for run in active)
            else StepStatus.RUNNING
        )
    return job.status


def reason(state: State, job: Job) -> str:
    """Why the job is in its state, in one line."""
    match job.status:
        case JobStatus.PENDING:
            return _pending_reason(state, job)
        case JobStatus.WAITING:
            return "; ".join(_asks(decision) for decision in state.undecided_of(job.id))
        case JobStatus.ENDING if job.ending is not None:
            steps = ", ".join(run.step for run in job.active)
            return f"ending {steps}: {_first_line(job.ending.error)}"
        case JobStatus.RUNNING:
            doing = "clean-up after " + _first_line(job.error) + ": " if job.failing else ""
            doing = "clean-up after cancel: " if job.cancelling else doing
            steps = ", ".join(f"{run.step} {_waits_for(run) or 'runs'}" for run in job.active)
            place = _place_reason(state, job)
            return f"{doing}{steps}{f': its place waits: {place}' if place else ''}"
        case _:
            return _first_line(job.error)


def _pending_reason(state: State, job: Job) -> str:
    workspace = state.workspaces.get(job.workspace) if job.workspace is not None else None
    if workspace is not None and workspace.status is WorkspaceStatus.CREATING:
        what = "its place" if workspace.runtime else f"its workspace {workspace.path}"
        return workspace.waits_for or f"creating {what}"
    if job.evaluate:
        return "evaluating its locals"
    return "about to start"


def _place_reason(state: State, job: Job) -> str:
    workspace = state.workspaces.get(job.workspace) if job.workspace is not None else None
    return workspace.waits_for if workspace is not None else ""


def _asks(decision: Decision) -> str:
    """What a waiting job waits for."""
    if decision.status is DecisionStatus.DISMISSED:
        return f"a decision was put aside: oj decision reopen {short_id(decision.id)}"
    return gist(decision)


def gist(decision: Decision) -> str:
    """What a decision is about, in one line."""
    headline, _, rest = decision.context.partition("\n\n")
    match decision.source:
        case DecisionSource.QUESTION if decision.questions:
            return "; ".join(_first_line(asked.question) for asked in decision.questions)
        case DecisionSource.APPROVAL | DecisionSource.PLAN if rest:
            # The headline says no more than the source.
            return _first_line(rest.removeprefix("Plan:\n"))
        case DecisionSource.IDLE if rest:
            message = rest.removeprefix("Last agent message:\n").lstrip()
            return f"idle, it said: {_first_line(message)}"
        case _:
            # Whose question it is is told elsewhere.
            return _first_line(_SUBJECT.sub("", headline))


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0]


def _waits_for(run: Run) -> str:
    return f"waits for try {run.attempt}" if run.status is StepStatus.PENDING else ""


def retries(job: Job) -> int:
    """How often steps were tried again."""
    return sum(1 for run in job.runs if run.attempt > 1)


def job_summary(state: State, job: Job) -> replies.JobSummary:
    """A row of `oj job list`."""
    return replies.JobSummary(
        id=job.id,
        name=job.name,
        kind=job.kind,
        project=job.project,
        status=job.status,
        step=step_word(job),
        step_status=step_status(job),
        reason=reason(state, job),
        created_at_ms=job.created_at,
        updated_at_ms=job.updated_at,
        retries=retries(job),
    )


def jobs(state: State, wanted: requests.JobList) -> replies.Jobs:
    """Newest change first; `total` counts what matches without the limit."""
    ids = state.jobs if wanted.project is None else state.project_jobs.get(wanted.project, {})
    newest = (state.jobs[job_id] for job_id in reversed(ids))
    total = len(ids)
    if not wanted.all_kinds:
        newest = (job for job in newest if not job.crew)
        total -= sum(1 for job_id in state.crews if job_id in ids)
    if wanted.name is None and wanted.status is None:
        return replies.Jobs(
            jobs=tuple(job_summary(state, job) for job in islice(newest, wanted.limit)),
            total=total,
        )
    found = [job for job in newest if _matches(job, wanted.name, wanted.status)]
    return replies.Jobs(
        jobs=tuple(job_summary(state, job) for job in found[: wanted.limit]), total=len(found)
    )


def _matches(job: Job, name: str | None, status: str | None) -> bool:
    if (
        name is not None
        and name.lower() not in job.name.lower()
        and name.lower() not in job.kind.lower()
    ):
        return False
    if status is None:
        return True
    wanted = status.lower()
    return wanted in (job.status, step_status(job)) or wanted in step_word(job).lower().split(",")


def step_view(run: Run, waits_for: str = "") -> replies.StepView:
    """One run of a step."""
    detail = run.error
    if run.status is StepStatus.WAITING:
        detail = waits_for
    if run.status is StepStatus.PENDING:
        detail = f"waits for try {run.attempt}"
    return replies.StepView(
        name=run.step,
        run=run.run,
        visit=run.visit,
        attempt=run.attempt,
        status=run.status,
        outcome=run.status,
        detail=detail,
        exit_code=run.exit_code,
        started_at_ms=run.started_at,
        finished_at_ms=run.finished_at,
        retry_at_ms=run.retry_at,
        deadline_at_ms=run.deadline_at,
    )


def workspace_view(state: State, workspace: Workspace) -> replies.WorkspaceView:
    """A workspace with its owner."""
    job = state.jobs.get(workspace.job_id)
    return replies.WorkspaceView(
        id=workspace.id,
        path=workspace.path,
        branch=workspace.branch or workspace.start,
        kind=workspace.kind,
        status=workspace.status,
        reason=workspace.reason,
        owner=f"job:{workspace.job_id}",
        owner_status=job.status if job is not None else "",
        project=workspace.project,
        created_at_ms=workspace.created_at,
        place=workspace.route.get("pod", ""),
        waits_for=workspace.waits_for,
    )


def workspaces(state: State, *, project: str | None, limit: int | None) -> replies.Workspaces:
    """Newest first."""
    newest = [
        workspace
        for workspace in reversed(state.workspaces.values())
        if project is None or workspace.project == project
    ]
    return replies.Workspaces(
        workspaces=tuple(workspace_view(state, workspace) for workspace in newest[:limit]),
        total=len(newest),
    )


def job_detail(state: State, job: Job, *, log_path: str, seq: int) -> replies.JobDetail:
    """All about one job."""
    workspace = state.workspaces.get(job.workspace) if job.workspace is not None else None
    runbook = state.runbooks[job.runbook]
    undecided = state.undecided_of(job.id)
    waits_for = {decision.run: _asks(decision) for decision in undecided}
    return replies.JobDetail(
        id=job.id,
        name=job.name,
        kind=job.kind,
        project=job.project,
        status=job.status,
        step=step_word(job),
        step_status=step_status(job),
        reason=reason(state, job),
        error=job.error,
        created_at_ms=job.created_at,
        updated_at_ms=job.updated_at,
        finished_at_ms=job.finished_at,
        retries=retries(job),
        cwd=job.vars.get("source.root", job.cwd),
        vars={name: value for name, value in job.vars.items() if name.startswith(SHOWN_SCOPES)},
        workspace=workspace_view(state, workspace) if workspace is not None else None,
        workspace_path=workspace.path if workspace is not None else "",
        steps=tuple(step_view(run, waits_for.get(run.run, "")) for run in job.runs),
        graph=tuple(
            replies.StepNode(
                name=step.name,
                kind="agent" if isinstance(step.run, RunAgent) else "shell",
                on_done=step.on_done,
                on_fail=step.on_fail or "",
                on_cancel=step.on_cancel or "",
                after=step.after,
            )
            for step in state.definition(job).steps
        ),
        runbook=runbook.path,
        log_path=log_path,
        seq=seq,
        agents=tuple(
            agent_view(state, state.agents[agent_id])
            for agent_id in state.job_agents.get(job.id, ())
        ),
        decisions=tuple(
            decision_view(state, decision)
            for decision in undecided
            if decision.status is DecisionStatus.OPEN
        ),
    )


def _entry(state: State, job: Job, now: int) -> replies.JobStatusEntry:
    return replies.JobStatusEntry(
        id=job.id,
        name=job.name,
        kind=job.kind,
        step=step_word(job),
        step_status=step_status(job),
        elapsed_ms=max(0, (job.finished_at or now) - job.created_at),
        last_activity_ms=job.updated_at,
        waiting_reason=reason(state, job),
        escalate_source=", ".join(
            dict.fromkeys(decision.source for decision in state.undecided_of(job.id))
        )
        if job.status is JobStatus.WAITING
        else "",
    )


def _crew_entry(job: Job, now: int) -> replies.AgentStatusEntry:
    return replies.AgentStatusEntry(
        id=job.id,
        name=title(job),
        status=job.status,
        elapsed_ms=max(0, now - job.created_at),
        last_activity_ms=job.updated_at,
    )


def overview(  # noqa: PLR0913 - one screen, all that it shows
    state: State,
    *,
    project: str | None,
    now: int,
    uptime_secs: int,
    version: str,
    warnings: tuple[str, ...],
) -> replies.Overview:
    """What `oj status` shows; its cost does not grow with the jobs that have ended."""
    active: dict[str, list[Job]] = {}
    waiting: dict[str, list[Job]] = {}
    suspended: dict[str, list[Job]] = {}
    failures: dict[str, list[Job]] = {}
    crews: dict[str, list[Job]] = {}
    pending: dict[str, int] = {}
    for job_id in state.live:
        job = state.jobs[job_id]
        group = {JobStatus.SUSPENDED: suspended, JobStatus.WAITING: waiting}.get(
            job.status, crews if job.crew else active
        )
        group.setdefault(job.project, []).append(job)
    for decision_id in state.open_decisions:
        owner = state.jobs[state.decisions[decision_id].job_id]
        pending[owner.project] = pending.get(owner.project, 0) + 1
    for job in _recent_failures(state, now):
        shown = failures.setdefault(job.project, [])
        if len(shown) < RECENT_FAILURES:
            shown.append(job)
    names = sorted({*active, *waiting, *suspended, *failures, *crews, *pending})

    def rows(group: dict[str, list[Job]], name: str) -> tuple[replies.JobStatusEntry, ...]:
        newest = sorted(group.get(name, ()), key=lambda job: -job.updated_at)
        return tuple(_entry(state, job, now) for job in newest)

    return replies.Overview(
        uptime_secs=uptime_secs,
        version=version,
        projects=tuple(
            replies.ProjectStatus(
                project=name,
                active_jobs=rows(active, name),
                escalated_jobs=rows(waiting, name),
                suspended_jobs=rows(suspended, name),
                recent_failures=rows(failures, name),
                agents=tuple(
                    _crew_entry(job, now)
                    for job in sorted(crews.get(name, ()), key=lambda job: -job.updated_at)
                ),
                decisions_pending=pending.get(name, 0),
            )
            for name in names
            if project is None or name == project
        ),
        warnings=warnings,
    )


def _recent_failures(state: State, now: int) -> Iterator[Job]:
    for job_id in islice(reversed(state.failed), 100):
        job = state.jobs[job_id]
        if now - job.finished_at > RECENT_MS:
            return
        yield job


def agent_view(state: State, agent: Agent) -> replies.AgentView:
    """One session."""
    job = state.jobs[agent.job_id]
    mine = (each for each in state.undecided_of(job.id) if each.agent_id == agent.id)
    waits_for = next(mine, None)
    return replies.AgentView(
        id=agent.id,
        name=agent.name,
        owner=f"{'crew' if job.crew else 'job'}:{job.id}",
        job_name=title(job),
        step=job.runs[agent.run - 1].step,
        project=job.project,
        status=agent.status,
        state=agent.state,
        detail=_agent_detail(agent, waits_for),
        last_message=agent.last_message,
        session_id=agent.session_id,
        runtime=agent.runtime,
        attempts=agent.attempts,
        exit_reason=agent.exit_reason,
        created_at_ms=agent.created_at,
        updated_at_ms=agent.updated_at,
        finished_at_ms=agent.ended_at,
        decision_id=waits_for.id if waits_for is not None else "",
    )


def _agent_detail(agent: Agent, waits_for: Decision | None) -> str:
    """Why the session is as it is, in one line."""
    if waits_for is not None:
        return f"waits for a decision ({waits_for.source}): {_asks(waits_for)}"
    if agent.status is AgentStatus.QUEUED:
        return "waits for a free slot (max_concurrency)"
    if agent.gate is not None:
        return "its gate runs"
    if agent.pending is not None:
        return f"the action for {agent.pending} waits for its cooldown"
    if agent.prompt is not None:
        return f"asks: {agent.prompt.kind}"
    if agent.error:
        return f"{agent.error}: {agent.detail}"
    return agent.exit_reason or _first_line(agent.detail)


def agents(
    state: State, *, project: str | None, job: str | None, status: str | None, limit: int | None
) -> replies.Agents:
    """Newest first."""
    newest: Iterable[Agent] = reversed(state.agents.values())
    if job is not None:
        ids = state.job_agents.get(state.find_job(job).id, [])
        newest = [state.agents[agent_id] for agent_id in reversed(ids)]
    found = [
        agent
        for agent in newest
        if (project is None or state.jobs[agent.job_id].project == project)
        and (status is None or agent.status == status.lower())
    ]
    return replies.Agents(
        agents=tuple(agent_view(state, agent) for agent in found[:limit]), total=len(found)
    )


def decision_view(state: State, decision: Decision) -> replies.DecisionView:
    """One decision."""
    job = state.jobs[decision.job_id]
    agent = state.agents.get(decision.agent_id)
    return replies.DecisionView(
        id=decision.id,
        owner_id=job.id,
        owner_name=title(job),
        project=job.project,
        agent_id=decision.agent_id,
        agent_name=agent.name if agent is not None else "",
        step=job.runs[decision.run - 1].step,
        source=decision.source,
        status=decision.status,
        summary=gist(decision),
        context=decision.context,
        options=_options(decision.options),
        question_groups=tuple(
            replies.QuestionView(
                question=question.question,
                header=question.header,
                multi_select=question.multi_select,
                options=_options(question.options),
            )
            for question in decision.questions
        ),
        choices=decision.choices,
        message=decision.message,
        by=decision.by,
        channel=decision.channel,
        note=decision.note,
        created_at_ms=decision.created_at,
        resolved_at_ms=decision.resolved_at,
        deadline_at_ms=decision.deadline_at,
        default=decision.default,
    )


def _options(choices: Iterable[Choice]) -> tuple[replies.OptionView, ...]:
    return tuple(
        replies.OptionView(
            number=number,
            label=choice.label,
            description=choice.description,
            recommended=choice.recommended,
        )
        for number, choice in enumerate(choices, 1)
    )


def decisions(state: State, *, project: str | None, closed: bool) -> replies.Decisions:
    """Newest first; with `closed` also those that are no longer open."""
    chosen = reversed(state.decisions) if closed else reversed(state.open_decisions)
    return replies.Decisions(
        decisions=tuple(
            decision_view(state, state.decisions[decision_id])
            for decision_id in chosen
            if project is None or state.jobs[state.decisions[decision_id].job_id].project == project
        )
    )


def tokens(state: State, *, project: str | None, now: int) -> replies.Tokens:
    """Newest first."""
    return replies.Tokens(
        tokens=tuple(
            replies.TokenView(
                id=token.id,
                name=token.name,
                project=token.project,
                verbs=token.verbs,
                status=token_status(token, now),
                created_at_ms=token.created_at,
                expires_at_ms=token.expires_at,
                revoked_at_ms=token.revoked_at,
            )
            for token in reversed(state.tokens.values())
            if project is None or token.project == project
        )
    )


def token_status(token: Token, now: int) -> str:
    """active, expired or revoked."""
    if token.revoked_at:
        return "revoked"
    return "expired" if token.ended_at(now) else "active"


def projects(state: State, *, project: str | None = None) -> replies.Projects:
    """Every project that has something live, by name."""
    counts: dict[str, int] = {}
    for job_id in state.live:
        job = state.jobs[job_id]
        if job.status not in TERMINAL:
            counts[job.project] = counts.get(job.project, 0) + 1
    sessions: dict[str, int] = {}
    for agent_id in state.live_agents:
        project = state.jobs[state.agents[agent_id].job_id].project
        sessions[project] = sessions.get(project, 0) + 1
    return replies.Projects(
        projects=tuple(
            replies.ProjectSummary(
                name=name,
                root=state.projects[name].root,
                active_jobs=counts[name],
                active_agents=sessions.get(name, 0),
                workers=0,
                crons=0,
            )
            for name in sorted(counts)
            if project is None or name == project
        )
    )
