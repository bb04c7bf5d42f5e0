"""Jobs: steps, run one after another or side by side, and the transitions between them.

Rule: a job changes only because of a fact, and only if `accepts` lets the fact in: a report about a run that is over, a
timer that lost its reason, a second ending are dropped before they reach the log. So every fact in the log was true when it
was written, and `apply` never has to doubt. Facts that `react` yields are applied as they are yielded, so a reaction always
sees the state that it made; the reactions to them follow in order.

How a job moves. `starting` steps begin once the job is *prepared* (locals evaluated, workspace ready). A step that is done
enters its `on_done` steps (several fan out) and any step whose `after` list is now complete (fan-in; the *marks* of done
steps are kept until such a step uses them up). When nothing is active any more the job-level `on_done` steps run, then the
job is completed. A failed step is tried again as its `retry` says; after that the job is *ending*: the other active steps
are ended, and only when nothing is left does the `on_fail` step begin (the step's own, else the job's), or the job has
failed. Cancel and suspend end the active steps in the same way. Ending first and going on later is what keeps two steps
from working in one directory at cross purposes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, assert_never

import msgspec
from msgspec import structs

from oj_daemon.core import effects, events
from oj_daemon.core.effects import AnyEffect
from oj_daemon.core.events import AnyEvent
from oj_daemon.core.state import (
    ACTIVE,
    Answer,
    Changes,
    Ending,
    Job,
    Reactions,
    Resolved,
    ResumePoint,
    Run,
    State,
    Turn,
    check_place,
    place_of,
    step_of,
    values_of,
)
from oj_daemon.errors import OjError, Rejected
from oj_daemon.runbook import argspec, suggest, template, words
from oj_daemon.runbook.model import (
    AgentDef,
    Container,
    JobDef,
    RunAgent,
    RunJob,
    RunShell,
    Source,
    SourceKind,
    StepDef,
)
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import (
    PREFIXES,
    TERMINAL,
    DecisionStatus,
    JobId,
    JobStatus,
    StepStatus,
    WorkspaceId,
    WorkspaceKind,
    WorkspaceStatus,
    short_id,
)

MAX_VISITS: Final = 5
"""How often one step may be entered by transitions before the circuit breaker ends the job (spec 2.6)."""
SETTABLE: Final = ("var.", "local.")
"""Namespaces of the variables that a resume may change."""
USABLE: Final = (WorkspaceStatus.READY, WorkspaceStatus.KEPT)
"""Workspaces in which steps can run."""
PLACE_PATH: Final = "/workspace"
"""Where a job's files are in a place of its own (kubernetes.md 2)."""
MAX_BACKOFF_MS: Final = 3_600_000
"""Longest pause between two tries of a step."""
PRUNE_AGE_MS: Final = 12 * 3_600_000
"""How long finished jobs are kept by `oj job prune` without `--all` (spec 6.8)."""


# --- admit -----------------------------------------------------------------------------------------------------------


def admit(state: State, request: requests.RunCommand | requests.JobRequest, turn: Turn) -> Answer:
    """Decide what a request makes true; raises Rejected when it cannot be."""
    match request:
        case requests.RunCommand():
            return _admit_run(state, request, turn)
        case requests.JobCancel(ids=refs):
            return _admit_cancel(state, refs)
        case requests.JobSuspend(ids=refs, reason=reason):
            return _admit_suspend(state, refs, reason)
        case requests.JobResume():
            return _admit_resume(state, request)
        case requests.JobResumeAll():
            return _admit_resume_all(state, request)
        case requests.JobPrune():
            return _admit_prune(state, request, turn)
        case _:
            assert_never(request)


def _admit_run(state: State, request: requests.RunCommand, turn: Turn) -> Answer:
    known = state.keys.get(request.key) if request.key else None
    if known is not None:
        job = state.jobs[known]
        return Answer(
            replies.JobStarted(job_id=job.id, name=job.name, kind=job.kind, status=job.status)
        )
    resolved = turn.resolved
    if resolved is None:
        raise Rejected(f"unknown command: {request.command}", code="not_found", hint="oj run")
    definition, crew = _job_definition(resolved)
    created = _created(request, resolved, definition, turn, crew=crew)
    facts: list[AnyEvent] = []
    if created.runbook not in state.runbooks:
        facts.append(events.RunbookLoaded(hash=created.runbook, runbook=resolved.runbook))
    project = state.projects.get(request.project)
    if project is None or project.root != request.project_root:
        facts.append(events.ProjectSeen(name=request.project, root=request.project_root))
    facts.append(created)
    return Answer(
        replies.JobStarted(
            job_id=created.job_id,
            name=created.name,
            kind=created.kind,
            status=JobStatus.PENDING,
            warnings=resolved.warnings,
        ),
        facts,
    )


def _job_definition(resolved: Resolved) -> tuple[JobDef, bool]:
    """What the command starts: a job, or a stand-alone agent, which is a job of one step."""
    match resolved.command.run:
        case RunJob(job=name):
            return resolved.runbook.jobs[name], False
        case RunAgent(agent=name):
            return JobDef(name=name, steps=(StepDef(name=name, run=RunAgent(agent=name)),)), True
        case _:
            raise Rejected(
                f"command {resolved.command.name!r} runs a shell line, which `oj run` does itself",
                code="invalid",
            )


def _created(
    request: requests.RunCommand, resolved: Resolved, definition: JobDef, turn: Turn, *, crew: bool
) -> events.JobCreated:
    command = resolved.command
    supplied = argspec.bind(command.args, command.defaults, request.args, command.name)
    arguments = {**definition.defaults, **supplied}
    for declared in (
        *command.args.positional,
        *command.args.options,
        *command.args.flags,
        command.args.variadic,
    ):
        if declared is not None:
            arguments.setdefault(declared.name, "")
    missing = [
        name
        for name in definition.vars
        if name not in arguments and not any(key.startswith(f"{name}.") for key in arguments)
    ]
    if missing:
        raise Rejected(
            f"job {definition.name!r} needs {', '.join(f'var.{name}' for name in missing)}, which command"
            f" {command.name!r} does not supply",
            code="invalid",
            hint=f"add it to the args or defaults of command {command.name!r}, or to the defaults of the job",
        )
    job_id = JobId(turn.fresh(PREFIXES["crew" if crew else "job"]))
    nonce = short_id(job_id)
    values = {f"var.{name}": value for name, value in arguments.items()}
    try:
        is_elsewhere = request.is_remote or bool(turn.policy.runtime)
        checkout = _checkout(request, definition.source, turn) if is_elsewhere else None
        if checkout is not None:
            request = _moved(request, checkout)
        values["invoke.dir"] = request.invoke_dir
        name = _display_name(definition, request, arguments, values, job_id)
        cwd = request.invoke_dir
        repo_root = ""
        if definition.source is not None:
            repo_root = _add_source(values, request, definition.source, turn, nonce, checkout)
        elif definition.cwd is not None:
            cwd = _join(
                request.invoke_dir,
                template.render(definition.cwd, {**arguments, **values}, request.env),
            )
        ref = definition.source.ref if definition.source is not None else None
        dynamic = any(text.shell is not None for text in definition.locals.values()) or (
            ref is not None and ref.shell is not None
        )
        if not dynamic:
            _add_static(values, definition, request.env)
    except OjError as error:
        raise Rejected(
            f"cannot make job {definition.name!r}: {error.message}", code="invalid", hint=error.hint
        ) from error
    return events.JobCreated(
        job_id=job_id,
        kind=definition.name,
        name=name,
        project=request.project,
        project_root=request.project_root,
        runbook=resolved.hash,
        invoke_dir=request.invoke_dir,
        vars=values,
        env=request.env,
        cwd=cwd,
        repo_root=repo_root,
        evaluate=dynamic,
        key=request.key,
        crew=crew,
        started_by=turn.started_by,
        checkout=checkout,
        container=_container(request),
    )


def _container(request: requests.RunCommand) -> Container | None:
    """What the project says about places; raises Rejected where that makes no sense."""
    if not request.container:
        return None
    attempt = f"read [container] of {request.project_root}/.oj/config.toml"
    known = Container.__struct_fields__
    unknown = [name for name in request.container if name not in known]
    if unknown:
        raise Rejected(
            f"{attempt}: there is no `{unknown[0]}`",
            code="invalid",
            hint=f"it may have {', '.join(known)}",
        )
    try:
        return msgspec.convert({"image": "", **request.container}, Container)
    except msgspec.ValidationError as error:
        raise Rejected(f"{attempt}: {error}", code="invalid", hint="correct the file") from error


def _checkout(request: requests.RunCommand, source: Source | None, turn: Turn) -> events.Checkout:
    """What stands in for the folders of a caller on another machine."""
    workspace_id = WorkspaceId(turn.fresh(PREFIXES["workspace"]))
    runtime = turn.policy.runtime
    path = PLACE_PATH if runtime else f"{turn.policy.workspaces_dir}/{workspace_id}"
    repo = request.repo
    reason, hint = _why_no_clone(request)
    if source is not None and source.kind is SourceKind.FOLDER:
        reason = "the folder that oj was called in is on another machine"
    elif repo is not None and not reason:
        return events.Checkout(
            workspace_id=workspace_id,
            kind=WorkspaceKind.CLONE,
            path=path,
            url=repo.url,
            start=repo.branch,
            head=repo.head,
            folder=_below(request.invoke_dir, repo.root) or "",
            runtime=runtime,
        )
    elif source is not None:
        raise Rejected(
            f"jobs have places of their own and work in clones, but {reason}"
            if runtime
            else f"the daemon is on another machine and works in a clone, but {reason}",
            code="invalid",
            hint=hint,
        )
    return events.Checkout(
        workspace_id=workspace_id,
        kind=WorkspaceKind.FOLDER,
        path=path,
        runtime=runtime,
        note=f"{reason}: an empty folder{'' if runtime else ' of the daemon'} takes its place",
    )


def _why_no_clone(request: requests.RunCommand) -> tuple[str, str]:
    """Why the daemon cannot clone the repository that the caller is in, and what to do; empty when it can."""
    repo = request.repo
    if repo is None:
        return (
            f"{request.invoke_dir} is not in a git repository",
            "run it inside a repository that the daemon can clone",
        )
    if not repo.url:
        return (
            f"the repository {repo.root} has no remote `origin`",
            "git remote add origin URL; git push -u origin HEAD",
        )
    head, colon, _ = repo.url.partition(":")
    is_path = not colon or "/" in head
    if repo.url.startswith("-") or (is_path and not repo.url.startswith("/")):
        return (
            f"the remote `origin` of {repo.root} is {repo.url!r}, which is no URL",
            "git remote set-url origin URL",
        )
    return "", ""


def _moved(request: requests.RunCommand, checkout: events.Checkout) -> requests.RunCommand:
    """The request as if it had been made inside of the checkout."""
    repo = request.repo if checkout.kind is WorkspaceKind.CLONE else None
    top = repo.root if repo is not None else ""

    def moved(folder: str) -> str:
        inner = _below(folder, top)
        return f"{checkout.path}/{inner}" if inner else checkout.path

    return structs.replace(
        request,
        project_root=moved(request.project_root),
        invoke_dir=moved(request.invoke_dir),
        repo=structs.replace(repo, root=checkout.path) if repo is not None else None,
    )


def _below(folder: str, top: str) -> str | None:
    """Where a folder is, as seen from `top`; None when it is not below it."""
    inner = folder.removeprefix(f"{top.rstrip('/')}/")
    is_below = bool(top) and inner != folder and ".." not in inner.split("/")
    return inner if is_below else None


def _display_name(
    definition: JobDef,
    request: requests.RunCommand,
    arguments: dict[str, str],
    values: dict[str, str],
    job_id: JobId,
) -> str:
    """The job's name for people (spec 2.3)."""
    if definition.title is None:
        return arguments.get("name") or job_id
    nonce = short_id(job_id)
    text = words.slug(template.render(definition.title, {**arguments, **values}, request.env))
    text = text.removeprefix(f"{request.project}-")
    return f"{text}-{nonce}" if text else nonce


def _add_source(  # noqa: PLR0913, PLR0917 - all that a source block is made of
    values: dict[str, str],
    request: requests.RunCommand,
    source: Source,
    turn: Turn,
    nonce: str,
    checkout: events.Checkout | None,
) -> str:
    """Add `source.*` of the workspace to be; returns the repository's root (empty for a plain folder)."""
    workspace_id = (
        checkout.workspace_id if checkout is not None else turn.fresh(PREFIXES["workspace"])
    )
    values["source.id"] = workspace_id
    values["source.root"] = (
        checkout.path if checkout is not None else f"{turn.policy.workspaces_dir}/{workspace_id}"
    )
    values["source.nonce"] = nonce
    if source.kind is SourceKind.FOLDER:
        values["source.type"] = WorkspaceKind.FOLDER
        return ""
    if request.repo is None:
        raise Rejected(
            f"its source is a git worktree, but {request.invoke_dir} is not in a git repository",
            code="invalid",
            hint="run it inside a repository, or `git init` and commit first",
        )
    values["source.type"] = WorkspaceKind.WORKTREE if checkout is None else checkout.kind
    values["source.repo_root"] = request.repo.root
    values["source.repo"] = request.repo.url
    if source.branch is None:
        values["source.branch"] = f"ws-{nonce}"
    else:
        values["source.branch"] = template.render(source.branch, values, request.env)
    return request.repo.root


def _add_static(values: dict[str, str], definition: JobDef, env: dict[str, str]) -> None:
    """Add `source.ref` and `local.*` where none of them holds `$(...)`."""
    source = definition.source
    if source is not None and source.ref is not None:
        values["source.ref"] = template.render(source.ref.text, values, env)
    for name, text in definition.locals.items():
        values[f"local.{name}"] = template.render(text.text, values, env)


def _find_all(
    state: State, refs: tuple[str, ...]
) -> tuple[list[Job], list[str], list[replies.Ambiguous]]:
    """The jobs that the refs name (each once), the refs that name nothing, and those that name several."""
    jobs: dict[JobId, Job] = {}
    missing: list[str] = []
    ambiguous: list[replies.Ambiguous] = []
    for ref in refs:
        try:
            job = state.find_job(ref)
        except Rejected as error:
            if error.code == "ambiguous":
                candidates = tuple(state.jobs_like(ref))
                ambiguous.append(replies.Ambiguous(id=ref, candidates=candidates))
            else:
                missing.append(ref)
            continue
        jobs[job.id] = job
    return list(jobs.values()), missing, ambiguous


def _admit_cancel(state: State, refs: tuple[str, ...]) -> Answer:
    jobs, missing, ambiguous = _find_all(state, refs)
    cancelled: list[str] = []
    terminal: list[str] = []
    facts: list[AnyEvent] = []
    for job in jobs:
        if job.status in TERMINAL and job.status is not JobStatus.SUSPENDED:
            terminal.append(job.id)
            continue
        cancelled.append(job.id)
        fact = events.JobEnding(job_id=job.id, why="cancel", error="cancelled by request")
        if accepts(state, fact):
            facts.append(fact)
    return Answer(
        replies.JobsCancelled(
            cancelled=tuple(cancelled),
            already_terminal=tuple(terminal),
            not_found=tuple(missing),
            ambiguous=tuple(ambiguous),
        ),
        facts,
    )


def _admit_suspend(state: State, refs: tuple[str, ...], reason: str) -> Answer:
    jobs, missing, ambiguous = _find_all(state, refs)
    suspended: list[str] = []
    terminal: list[str] = []
    facts: list[AnyEvent] = []
    for job in jobs:
        fact = events.JobEnding(job_id=job.id, why="suspend", error=reason)
        if accepts(state, fact):
            facts.append(fact)
            suspended.append(job.id)
        elif job.ending is not None and job.ending.why == "suspend":
            suspended.append(job.id)
        else:
            terminal.append(job.id)
    return Answer(
        replies.JobsSuspended(
            suspended=tuple(suspended),
            already_terminal=tuple(terminal),
            not_found=tuple(missing),
            ambiguous=tuple(ambiguous),
        ),
        facts,
    )


def _resume_fact(
    state: State,
    job: Job,
    *,
    step: str | None = None,
    variables: dict[str, str] | None = None,
    message: str = "",
) -> events.JobResumed:
    """The fact that lets the job go on; raises Rejected when it cannot."""
    if job.status not in (JobStatus.FAILED, JobStatus.SUSPENDED):
        ended = job.status in TERMINAL
        raise Rejected(
            f"cannot resume job {short_id(job.id)}: it is {job.status}",
            code="conflict",
            hint=f"oj run it again; see oj job show {short_id(job.id)}"
            if ended
            else f"oj job show {short_id(job.id)}",
        )
    definition = state.definition(job)
    if step is not None:
        names = [known.name for known in definition.steps]
        if step not in names:
            raise Rejected(
                f"job {short_id(job.id)} has no step {step!r}; its steps are {', '.join(names)}",
                code="invalid",
                hint=f"oj job show {short_id(job.id)}",
            )
        steps: tuple[str, ...] = (step,)
    elif job.resume_point is not None and job.resume_point.steps:
        steps = job.resume_point.steps
    else:
        steps = (definition.steps[0].name,)
    renamed = _renamed(state, job, variables or {})
    return events.JobResumed(job_id=job.id, steps=steps, vars=renamed, message=message)


def _renamed(state: State, job: Job, variables: dict[str, str]) -> dict[str, str]:
    """The new values under their full names; raises Rejected for a name that nothing in the job would ever read."""
    definition = state.definition(job)
    known = {name for name in job.vars if name.startswith(SETTABLE)}
    known |= {f"var.{name}" for name in definition.vars}
    agents = state.runbooks[job.runbook].agents
    known |= {name for name in _names_read(definition, agents) if name.startswith(SETTABLE)}
    renamed = {
        name if name.startswith(SETTABLE) else f"var.{name}": value
        for name, value in variables.items()
    }
    for name in renamed:
        if name not in known:
            raise Rejected(
                f"job {short_id(job.id)} has no variable {name!r}",
                code="invalid",
                hint=suggest.did_you_mean(name, sorted(known), "it has"),
            )
    return renamed


def _names_read(definition: JobDef, agents: Mapping[str, AgentDef]) -> Iterator[str]:
    """Every name that a template of a step, or of the agent it runs, refers to."""
    for step in definition.steps:
        texts = [*step.env.values(), step.cwd or ""]
        if isinstance(step.run, RunShell):
            yield from (binding.name for binding in step.run.shell.bindings)
        else:
            agent = agents[step.run.agent]
            texts += [agent.prompt or "", agent.cwd or "", *agent.env.values()]
            for shell in (agent.run, *agent.prime.values()):
                yield from (binding.name for binding in shell.bindings)
        for text in texts:
            yield from (found.name for found in template.placeholders(text))


def _admit_resume(state: State, request: requests.JobResume) -> Answer:
    job = state.find_job(request.id)
    if job.status is JobStatus.WAITING:
        return _admit_go_on(state, job, request)
    fact = _resume_fact(
        state, job, step=request.step, variables=request.vars, message=request.message or ""
    )
    warnings: tuple[str, ...] = ()
    kinds = {step.name: step.run for step in state.definition(job).steps}
    if request.message is not None and all(
        isinstance(kinds[name], RunShell) for name in fact.steps
    ):
        warnings = ("shell steps take no message; it was ignored",)
    return Answer(replies.JobResumed(id=job.id, steps=fact.steps, warnings=warnings), [fact])


def _admit_go_on(state: State, job: Job, request: requests.JobResume) -> Answer:
    """A job that waits for decisions goes on without them: its agents get the message."""
    facts: list[AnyEvent] = [
        events.DecisionClosed(decision_id=decision.id, why="auto-dismissed by job resume")
        for decision in state.decisions.values()
        if decision.job_id == job.id
        and decision.status in (DecisionStatus.OPEN, DecisionStatus.DISMISSED)
    ]
    message = request.message or "Please continue with the task."
    steps: list[str] = []
    for run in job.active:
        agent = state.agent_of(job.id, run.run)
        if run.status is not StepStatus.WAITING or agent is None:
            continue
        steps.append(run.step)
        if agent.is_alive and not request.kill:
            facts.append(
                events.AgentNudging(agent_id=agent.id, nudge=agent.nudges + 1, message=message)
            )
        else:
            facts.append(events.AgentEnding(agent_id=agent.id, why="resume", message=message))
    return Answer(replies.JobResumed(id=job.id, steps=tuple(steps)), facts)


def _admit_resume_all(state: State, request: requests.JobResumeAll) -> Answer:
    resumed: list[str] = []
    skipped: list[tuple[str, str]] = []
    facts: list[AnyEvent] = []
    for job_id in (*state.live, *state.failed):
        job = state.jobs[job_id]
        if request.project is not None and job.project != request.project:
            continue
        try:
            facts.append(_resume_fact(state, job))
        except Rejected as error:
            skipped.append((job.id, error.message))
        else:
            resumed.append(job.id)
    return Answer(replies.JobsResumed(resumed=tuple(resumed), skipped=tuple(skipped)), facts)


def _admit_prune(state: State, request: requests.JobPrune, turn: Turn) -> Answer:
    pruned: list[replies.PrunedEntry] = []
    facts: list[AnyEvent] = []
    skipped = 0
    for job in state.jobs.values():
        if request.project is not None and job.project != request.project:
            continue
        if not _prunable(job, request, turn.now):
            skipped += 1
            continue
        pruned.append(replies.PrunedEntry(id=job.id, name=job.name, detail=str(job.status)))
        if job.workspace is not None:
            facts.append(events.WorkspaceDeleting(workspace_id=job.workspace))
        facts.append(events.JobDeleted(job_id=job.id, project=job.project))
    reply = replies.Pruned(dry_run=request.dry_run, pruned=tuple(pruned), skipped=skipped)
    return Answer(reply, [] if request.dry_run else facts)


def _prunable(job: Job, request: requests.JobPrune, now: int) -> bool:
    """Whether prune takes the job: suspended and running ones never, cancelled ones at any age."""
    if job.status not in TERMINAL or job.status is JobStatus.SUSPENDED:
        return False
    if request.failed:
        return job.status is JobStatus.FAILED
    old = now - job.finished_at >= PRUNE_AGE_MS
    return request.all or old or job.status is JobStatus.CANCELLED


# --- accepts ---------------------------------------------------------------------------------------------------------


def accepts(state: State, event: events.JobEvent) -> bool:
    """Whether the fact may still become true; one that may not is dropped before it reaches the log."""
    if isinstance(event, events.JobCreated):
        return True
    job = state.jobs.get(event.job_id)
    if job is None:
        return False
    ended = job.status in TERMINAL
    match event:  # what happens to every job first: each class before the right one costs time
        case events.StepStarted(via="retry"):
            run = job.run_of(event.run)
            return job.ending is None and run is not None and run.status is StepStatus.PENDING
        case events.StepStarted():
            return not ended and all(run.step != event.step for run in job.active)
        case events.StepExited() | events.StepTimedOut():
            run = job.run_of(event.run)
            return run is not None and run.status in ACTIVE
        case events.JobFinished():
            return not ended and not job.active
        case events.JobEnding(why="cancel"):
            already = job.cancelling or (job.ending is not None and job.ending.why == "cancel")
            return not already and (not ended or job.status is JobStatus.SUSPENDED)
        case events.JobEnding(why="suspend"):
            return not ended and not job.cancelling and job.ending is None
        case events.JobEnding():
            return not ended and job.ending is None
        case events.JobEvaluated() | events.JobEvaluateFailed():
            return job.evaluate and (not ended or job.status is JobStatus.SUSPENDED)
        case events.JobResumed():
            return job.status in (JobStatus.FAILED, JobStatus.SUSPENDED)
        case events.JobDeleted():
            return ended
        case events.StepRetryScheduled():
            return not ended and job.ending is None
        case _:
            assert_never(event)


# --- apply -----------------------------------------------------------------------------------------------------------


def _job_created(state: State, event: events.JobCreated, at: int) -> None:
    state.put_job(_new_job(state, event, at))


def _job_deleted(state: State, event: events.JobDeleted, _at: int) -> None:
    state.drop_job(event.job_id)


def _got_workspace(state: State, event: events.WorkspaceCreated, at: int) -> None:
    _put(state, state.jobs[event.job_id], at, workspace=event.workspace_id)


def _lost_workspace(state: State, event: events.WorkspaceDeleted, _at: int) -> None:
    owner = _owner(state, event.workspace_id)
    if owner is not None:
        # Not a change of the job itself, so it keeps its place in the order of changes.
        state.jobs[owner.id] = structs.replace(owner, workspace=None)


def _job_evaluated(state: State, event: events.JobEvaluated, at: int) -> None:
    job = state.jobs[event.job_id]
    _put(state, job, at, vars={**job.vars, **event.vars}, evaluate=False)


def _job_resumed(state: State, event: events.JobResumed, at: int) -> None:
    job = state.jobs[event.job_id]
    suspended = job.status is JobStatus.SUSPENDED
    _put(
        state,
        job,
        at,
        status=JobStatus.PENDING,
        starting=event.steps,
        vars={**job.vars, **event.vars},
        message=event.message,
        marks=job.resume_point.marks if job.resume_point is not None else job.marks,
        visits={},
        ending=None,
        # A suspended clean-up goes on as a clean-up; a failed job starts afresh.
        failing=job.failing and suspended,
        closing=job.closing and suspended,
        error=job.error if job.failing and suspended else "",
        finished_at=0,
    )


def _step_timed_out(state: State, event: events.StepTimedOut, at: int) -> None:
    _put_run(state, state.jobs[event.job_id], at, event.run, timed_out=True)


def _step_retry_scheduled(state: State, event: events.StepRetryScheduled, at: int) -> None:
    job = state.jobs[event.job_id]
    run = Run(
        run=event.run,
        step=event.step,
        visit=event.visit,
        attempt=event.attempt,
        status=StepStatus.PENDING,
        via="retry",
        retry_at=event.at,
        timeout_ms=event.timeout_ms,
    )
    _put(state, job, at, runs=(*job.runs, run))


def _new_job(state: State, event: events.JobCreated, at: int) -> Job:
    # The one step of a stand-alone agent is called as the agent is.
    entry = (
        event.kind if event.crew else state.runbooks[event.runbook].jobs[event.kind].steps[0].name
    )
    return Job(
        id=event.job_id,
        kind=event.kind,
        name=event.name,
        project=event.project,
        project_root=event.project_root,
        runbook=event.runbook,
        invoke_dir=event.invoke_dir,
        vars=event.vars,
        env=event.env,
        cwd=event.cwd,
        repo_root=event.repo_root,
        evaluate=event.evaluate,
        starting=(entry,),
        created_at=at,
        updated_at=at,
        key=event.key,
        crew=event.crew,
        started_by=event.started_by,
        checkout=event.checkout,
        container=event.container,
    )


def _put(state: State, job: Job, at: int, **changes: object) -> None:
    state.put_job(structs.replace(job, updated_at=at, **changes))


def _put_run(state: State, job: Job, at: int, number: int, **changes: object) -> None:
    run = job.runs[number - 1]
    runs = (*job.runs[: number - 1], structs.replace(run, **changes), *job.runs[number:])
    _put(state, job, at, runs=runs)


def _owner(state: State, workspace_id: WorkspaceId) -> Job | None:
    workspace = state.workspaces.get(workspace_id)
    job = state.jobs.get(workspace.job_id) if workspace is not None else None
    return job if job is not None and job.workspace == workspace_id else None


def _job_ending(state: State, event: events.JobEnding, at: int) -> None:
    job = state.jobs[event.job_id]
    steps = [run.step for run in job.active]
    if event.step:
        steps.insert(0, event.step)
    if job.ending is not None:  # a cancel overtakes a failure or a suspend
        steps = list(job.ending.steps)
    elif job.status is JobStatus.SUSPENDED and job.resume_point is not None:
        steps = list(job.resume_point.steps)
    stopped = StepStatus.SUSPENDED if event.why == "suspend" else StepStatus.CANCELLED
    runs = tuple(
        structs.replace(run, status=stopped, finished_at=at, retry_at=0)
        if run.status is StepStatus.PENDING
        else run
        for run in job.runs
    )
    ending = Ending(
        why=event.why,
        step=event.step,
        error=event.error,
        final=event.final,
        steps=tuple(dict.fromkeys(steps)),
    )
    _put(state, job, at, status=JobStatus.ENDING, ending=ending, runs=runs, finished_at=0)


def _job_finished(state: State, event: events.JobFinished, at: int) -> None:
    job = state.jobs[event.job_id]
    status = event.status
    point = job.resume_point
    if status is JobStatus.SUSPENDED or (status is JobStatus.FAILED and point is None):
        point = _interrupted(state.definition(job), job)
    if status in (JobStatus.DONE, JobStatus.CANCELLED):
        point = None
    _put(
        state,
        job,
        at,
        status=status,
        error=event.error,
        finished_at=at,
        ending=None,
        cancelling=False,
        starting=(),
        resume_point=point,
    )


def _interrupted(definition: JobDef, job: Job) -> ResumePoint:
    """Where the job would go on: interrupted steps again, and what follows those that were done meanwhile."""
    if job.starting:
        return ResumePoint(steps=job.starting, marks=job.marks)
    steps: dict[str, None] = {}
    for name in job.ending.steps if job.ending is not None else ():
        last = next((run for run in reversed(job.runs) if run.step == name), None)
        if last is not None and last.status is StepStatus.DONE:
            steps.update(dict.fromkeys(step_of(definition, name).on_done))
        else:
            steps[name] = None
    for step in definition.steps:
        if _joined(step, job.marks):
            steps[step.name] = None
    return ResumePoint(steps=tuple(steps), marks=job.marks)


def _joined(step: StepDef, marks: tuple[str, ...]) -> bool:
    """Whether everything that the fan-in step waits for is done."""
    return bool(step.after) and all(name in marks for name in step.after)


def _step_started(state: State, event: events.StepStarted, at: int) -> None:
    job = state.jobs[event.job_id]
    via = event.via
    run = Run(
        run=event.run,
        step=event.step,
        visit=event.visit,
        attempt=event.attempt,
        status=StepStatus.RUNNING,
        via=via,
        started_at=at,
        deadline_at=at + event.timeout_ms if event.timeout_ms else 0,
    )
    if via == "retry":
        _put(state, job, at, runs=tuple(run if old.run == run.run else old for old in job.runs))
        return
    visits = job.visits
    if via not in ("entry", "resume"):
        visits = {**visits, event.step: visits.get(event.step, 0) + 1}
    marks = job.marks
    if marks:
        used = {event.step}
        if via == "join":
            used.update(step_of(state.definition(job), event.step).after)
        marks = tuple(name for name in marks if name not in used)
    state.put_job(
        structs.replace(
            job,
            updated_at=at,
            status=JobStatus.WAITING
            if any(old.status is StepStatus.WAITING for old in job.runs)
            else JobStatus.RUNNING,
            runs=(*job.runs, run),
            starting=(),
            ending=None,
            visits=visits,
            marks=() if via in ("fail", "cancel") else marks,
            **_path_changes(state, job, via),
        )
    )


def _path_changes(state: State, job: Job, via: str) -> dict[str, object]:
    """What changes about a job as a whole when a step starts on that path."""
    match via:
        case "fail":
            failing: dict[str, object] = {"failing": True, "error": _first_error(job)}
            if not job.failing:
                failing["resume_point"] = _interrupted(state.definition(job), job)
            return failing
        case "cancel":
            return {"cancelling": True, "failing": False, "error": ""}
        case "done" if job.failing:  # the clean-up recovered the job
            return {"failing": False, "error": "", "resume_point": None}
        case "job_done":
            return {"closing": True}
        case "resume":
            return {"resume_point": job.resume_point if job.failing else None}
        case _:
            return {}


def _first_error(job: Job) -> str:
    """The error that the job ends with: the first, and what went wrong in its clean-up."""
    new = job.ending.error if job.ending is not None else ""
    if job.failing and job.error and new:
        return f"{job.error}; then {new}"
    return new or job.error


def _step_exited(state: State, event: events.StepExited, at: int) -> None:
    job = state.jobs[event.job_id]
    run = job.runs[event.run - 1]
    status, error = _outcome(job, run, event)
    marks = job.marks
    if status is StepStatus.DONE and _is_waited_for(run.step, state.definition(job)):
        marks = (*(name for name in marks if name != run.step), run.step)
    changed = structs.replace(
        run,
        status=status,
        finished_at=at,
        exit_code=event.exit_code,
        error=error,
        retry_at=0,
        deadline_at=0,
        is_swept=job.ending is not None,
    )
    runs = (*job.runs[: event.run - 1], changed, *job.runs[event.run :])
    state.put_job(structs.replace(job, updated_at=at, runs=runs, marks=marks))


def _is_waited_for(name: str, definition: JobDef) -> bool:
    """Whether a fan-in step counts on the step."""
    for step in definition.steps:  # noqa: SIM110 - a generator would double the cost of the fact
        if name in step.after:
            return True
    return False


def _outcome(job: Job, run: Run, event: events.StepExited) -> tuple[StepStatus, str]:
    if run.timed_out:
        return StepStatus.FAILED, "timed out"
    if event.ended and job.ending is not None:
        if job.ending.why == "suspend":
            return StepStatus.SUSPENDED, "suspended"
        why = (
            "cancelled" if job.ending.why == "cancel" else f"ended because {job.ending.step} failed"
        )
        return StepStatus.CANCELLED, why
    if event.error:
        return StepStatus.FAILED, event.error
    if event.exit_code == 0:
        return StepStatus.DONE, ""
    return StepStatus.FAILED, f"shell exit code: {event.exit_code}"


def _decision_open(
    state: State, event: events.DecisionCreated | events.DecisionReopened, at: int
) -> None:
    job_id, run = _asked(state, event)
    _put_run(state, state.jobs[job_id], at, run, status=StepStatus.WAITING)
    _put_waiting(state, state.jobs[job_id], at)


def _decision_over(
    state: State, event: events.DecisionResolved | events.DecisionClosed, at: int
) -> None:
    if isinstance(event, events.DecisionClosed) and event.dismissed:
        return
    job_id, number = _asked(state, event)
    run = state.jobs[job_id].run_of(number)
    if run is not None and run.status is StepStatus.WAITING:
        _put_run(state, state.jobs[job_id], at, number, status=StepStatus.RUNNING)
        _put_waiting(state, state.jobs[job_id], at)


def _asked(state: State, event: events.DecisionEvent) -> tuple[JobId, int]:
    if isinstance(event, events.DecisionCreated):
        return event.job_id, event.run
    decision = state.decisions[event.decision_id]
    return decision.job_id, decision.run


def _put_waiting(state: State, job: Job, at: int) -> None:
    """A job waits as long as one of its steps waits for a decision."""
    if job.status in (JobStatus.RUNNING, JobStatus.WAITING):
        waits = any(run.status is StepStatus.WAITING for run in job.runs)
        _put(state, job, at, status=JobStatus.WAITING if waits else JobStatus.RUNNING)


CHANGES: Final[Changes] = {
    events.DecisionCreated: _decision_open,
    events.DecisionReopened: _decision_open,
    events.DecisionResolved: _decision_over,
    events.DecisionClosed: _decision_over,
    events.JobCreated: _job_created,
    events.JobEvaluated: _job_evaluated,
    events.JobEnding: _job_ending,
    events.JobFinished: _job_finished,
    events.JobResumed: _job_resumed,
    events.JobDeleted: _job_deleted,
    events.StepStarted: _step_started,
    events.StepTimedOut: _step_timed_out,
    events.StepExited: _step_exited,
    events.StepRetryScheduled: _step_retry_scheduled,
    events.WorkspaceCreated: _got_workspace,
    events.WorkspaceDeleted: _lost_workspace,
}
"""What each fact makes true of the job records."""


# --- react -----------------------------------------------------------------------------------------------------------


def _on_created(
    state: State, event: events.JobCreated, _turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    yield from _prepare(state, state.jobs[event.job_id])


def _on_evaluated(
    state: State, event: events.JobEvaluated, _turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    yield effects.EndLocals(job_id=event.job_id)
    yield from _prepare(state, state.jobs[event.job_id])


def _on_resumed(
    state: State, event: events.JobResumed, _turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    yield from _prepare(state, state.jobs[event.job_id])


def _on_evaluate_failed(
    _state: State, event: events.JobEvaluateFailed, _turn: Turn
) -> Iterator[AnyEvent]:
    yield events.JobEnding(job_id=event.job_id, why="fail", error=event.error, final=True)


def _on_workspace_ready(
    state: State, event: events.WorkspaceReady, _turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    owner = _owner(state, event.workspace_id)
    if owner is not None:
        yield from _prepare(state, owner)


def _on_workspace_deleted(
    state: State, event: events.WorkspaceDeleted, _turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    job = state.jobs.get(event.job_id)
    if job is None:
        return
    if job.status in TERMINAL:
        yield effects.CloseLog(job_id=job.id)  # what was kept is told there
    yield from _prepare(state, job)  # it may have been resumed meanwhile


def _on_workspace_kept(
    state: State, event: events.WorkspaceKept, _turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    owner = _owner(state, event.workspace_id)
    if owner is None:
        return
    if owner.status in TERMINAL:
        yield effects.CloseLog(job_id=owner.id)  # the reason is told there
    yield from _prepare(state, owner)  # it may have been resumed meanwhile


def _on_workspace_failed(
    state: State, event: events.WorkspaceFailed | events.WorkspaceDeleteFailed, _turn: Turn
) -> Iterator[AnyEvent]:
    owner = _owner(state, event.workspace_id)
    if owner is not None and owner.status is JobStatus.PENDING:
        yield events.JobEnding(
            job_id=owner.id, why="fail", error=f"no workspace: {event.reason}", final=True
        )


def _on_step_started(
    state: State, event: events.StepStarted, _turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    job = state.jobs[event.job_id]
    run = job.runs[event.run - 1]
    if run.deadline_at:
        yield _timeout(job, run)
    yield from _start(state, job, run)


def _on_step_timed_out(
    state: State, event: events.StepTimedOut, _turn: Turn
) -> Iterator[AnyEffect]:
    job = state.jobs[event.job_id]
    yield from _end(state, job, job.runs[event.run - 1])


def _on_retry_scheduled(
    _state: State, event: events.StepRetryScheduled, _turn: Turn
) -> Iterator[AnyEffect]:
    yield _retry_timer(event.job_id, event)


def _on_step_exited(
    state: State, event: events.StepExited, turn: Turn
) -> Iterator[AnyEvent | AnyEffect]:
    yield from _after_exit(state, state.jobs[event.job_id], event.run, turn)


def _on_ending(state: State, event: events.JobEnding, turn: Turn) -> Iterator[AnyEvent | AnyEffect]:
    job = state.jobs[event.job_id]
    if job.ending is None:  # already gone on, in answer to another fact of this turn
        return
    for run in job.active:
        yield from _end(state, job, run)
    for run in job.runs:
        if run.via == "retry" and run.finished_at == turn.now and not run.started_at:
            yield effects.CancelTimer(key=f"retry:{job.id}/{run.run}")
    if not job.active:
        yield from _after_ending(state, job, job.ending)


def _on_finished(state: State, event: events.JobFinished, _turn: Turn) -> Iterator[AnyEffect]:
    job = state.jobs[event.job_id]
    if job.evaluate:
        yield effects.EndLocals(job_id=job.id)
    yield effects.CloseLog(job_id=job.id)


def _on_deleted(_state: State, event: events.JobDeleted, _turn: Turn) -> Iterator[AnyEffect]:
    yield effects.ForgetJob(job_id=event.job_id)


REACTIONS: Final[Reactions] = {
    events.JobCreated: _on_created,
    events.JobEvaluated: _on_evaluated,
    events.JobEvaluateFailed: _on_evaluate_failed,
    events.JobResumed: _on_resumed,
    events.WorkspaceReady: _on_workspace_ready,
    events.WorkspaceDeleted: _on_workspace_deleted,
    events.WorkspaceKept: _on_workspace_kept,
    events.WorkspaceFailed: _on_workspace_failed,
    events.WorkspaceDeleteFailed: _on_workspace_failed,
    events.StepStarted: _on_step_started,
    events.StepTimedOut: _on_step_timed_out,
    events.StepRetryScheduled: _on_retry_scheduled,
    events.StepExited: _on_step_exited,
    events.JobEnding: _on_ending,
    events.JobFinished: _on_finished,
    events.JobDeleted: _on_deleted,
}
"""What follows for jobs now that the fact is true."""


def recover(state: State) -> Iterator[AnyEvent | AnyEffect]:
    """Orders (and, where values are missing, facts) of live jobs whose answers a crash may have eaten."""
    for job_id in state.live:
        job = state.jobs[job_id]
        if job.status is JobStatus.PENDING and job.evaluate and _has_place(state, job):
            yield _evaluate(state, job)
        for run in job.active:
            if run.status is StepStatus.PENDING:
                yield _retry_timer(job.id, run)
            elif run.timed_out or job.ending is not None:
                yield from _end(state, job, run)
            else:
                if run.deadline_at:
                    yield _timeout(job, run)
                yield from _start(state, job, run)


def _prepare(state: State, job: Job) -> Iterator[AnyEvent | AnyEffect]:
    """Evaluate, then make the workspace, then start; each answer comes back here.

    Of a checkout, which is all that there is of the caller's folder, the evaluation comes second; the branch whose start
    it finds out comes third.
    """
    if job.status is not JobStatus.PENDING:
        return
    definition = state.definition(job)
    if job.evaluate and _has_place(state, job):
        yield _evaluate(state, job)
        return
    if definition.source is not None or job.checkout is not None:
        workspace = state.workspaces.get(job.workspace) if job.workspace is not None else None
        if workspace is None or workspace.status is WorkspaceStatus.FAILED:
            yield _workspace_created(job, definition.source)
            return
        if workspace.status is WorkspaceStatus.DELETING and workspace.reason:
            yield events.WorkspaceDeleting(workspace_id=workspace.id)  # once more
        if workspace.status not in USABLE:
            return
        if workspace.kind is WorkspaceKind.CLONE and not workspace.branch:
            whole = _workspace_created(job, definition.source)
            if whole.branch:
                yield structs.replace(whole, head="", folder="")  # both are told already
                return
    via = "resume" if job.runs else "entry"
    for name in job.starting:
        yield _started(state, job.id, name, via)


def _has_place(state: State, job: Job) -> bool:
    """Whether there is a folder to evaluate in: the caller's, or the checkout that stands in for it."""
    workspace = state.workspaces.get(job.workspace) if job.workspace is not None else None
    return job.checkout is None or (workspace is not None and workspace.status in USABLE)


def _evaluate(state: State, job: Job) -> effects.EvaluateJob:
    definition = state.definition(job)
    return effects.EvaluateJob(
        job_id=job.id,
        locals=tuple(definition.locals.items()),
        ref=definition.source.ref if definition.source is not None else None,
        values=values_of(job),
        env=job.env,
        cwd=job.invoke_dir,
        place=place_of(state, job),
    )


def _workspace_created(job: Job, source: Source | None) -> events.WorkspaceCreated:
    checkout = job.checkout
    if checkout is not None:
        ref = source.ref if source is not None else None
        is_start_known = ref is None or not job.evaluate
        return events.WorkspaceCreated(
            workspace_id=checkout.workspace_id,
            job_id=job.id,
            kind=checkout.kind,
            path=checkout.path,
            project=job.project,
            repo=checkout.url,
            branch=job.vars.get("source.branch", "") if is_start_known else "",
            ref=job.vars.get("source.ref", ""),
            own_branch=source is None or source.branch is None,
            start=checkout.start,
            head=checkout.head,
            folder=checkout.folder,
            all_branches=ref is not None or (source is not None and source.branch is not None),
            runtime=checkout.runtime,
        )
    return events.WorkspaceCreated(
        workspace_id=WorkspaceId(job.vars["source.id"]),
        job_id=job.id,
        kind=WorkspaceKind(job.vars["source.type"]),
        path=job.vars["source.root"],
        project=job.project,
        repo=job.repo_root,
        branch=job.vars.get("source.branch", ""),
        ref=job.vars.get("source.ref", ""),
        own_branch=source is None or source.branch is None,
    )


def _started(state: State, job_id: JobId, name: str, via: str) -> events.StepStarted:
    """The fact that a step begins."""
    job = state.jobs[job_id]
    definition = state.definition(job)
    return events.StepStarted(
        job_id=job_id,
        step=name,
        run=len(job.runs) + 1,
        visit=sum(1 for run in job.runs if run.step == name and run.attempt == 1) + 1,
        via=via,
        timeout_ms=step_of(definition, name).timeout_ms,
    )


def _enter(
    state: State, job: Job, names: list[tuple[str, str]], *, failed_step: str = ""
) -> Iterator[AnyEvent | AnyEffect]:
    """Begin steps (name, via), or end the job when one of them was entered too often."""
    for name, _ in names:
        visits = job.visits.get(name, 0)
        if visits >= MAX_VISITS:
            error = f"circuit breaker: step {name!r} was entered {visits + 1} times by transitions (limit {MAX_VISITS})"
            first = job.ending.error if job.ending is not None else job.error
            if first:
                error = f"{error}; last error: {first}"
            if job.ending is not None:
                yield events.JobFinished(job_id=job.id, status=JobStatus.FAILED, error=error)
            else:
                yield events.JobEnding(
                    job_id=job.id, why="fail", step=failed_step, error=error, final=True
                )
            return
    for name, via in names:
        yield _started(state, job.id, name, via)


def _after_exit(state: State, job: Job, number: int, turn: Turn) -> Iterator[AnyEvent | AnyEffect]:
    run = job.runs[number - 1]
    yield effects.ForgetRun(job_id=job.id, run=number, place=place_of(state, job))
    yield effects.CancelTimer(key=f"timeout:{job.id}/{number}")
    if job.status in TERMINAL:
        return
    if job.ending is not None or run.is_swept:
        # Several may exit in one turn: the first of them may have gone on already.
        if job.ending is not None and not job.active:
            yield from _after_ending(state, job, job.ending)
        return
    definition = state.definition(job)
    step = step_of(definition, run.step)
    if run.status is StepStatus.DONE:
        targets = [(name, "done") for name in step.on_done]
        targets += [
            (other.name, "join")
            for other in definition.steps
            if run.step in other.after and _joined(other, job.marks)
        ]
        if targets:
            yield from _enter(state, job, targets)
        elif not job.active:
            yield from _complete(state, job)
    elif run.attempt <= step.retry.attempts:
        pause = min(step.retry.backoff_ms * 2 ** (run.attempt - 1), MAX_BACKOFF_MS)
        yield events.StepRetryScheduled(
            job_id=job.id,
            step=run.step,
            run=len(job.runs) + 1,
            visit=run.visit,
            attempt=run.attempt + 1,
            at=turn.now + pause,
            timeout_ms=step.timeout_ms,
        )
    else:
        yield events.JobEnding(
            job_id=job.id, why="fail", step=run.step, error=_step_error(run, step)
        )


def _step_error(run: Run, step: StepDef) -> str:
    text = run.error
    if run.timed_out and step.timeout_ms is not None:
        text = f"timed out after {step.timeout_ms / 1000:g} s"
    tries = f" (try {run.attempt} of {step.retry.attempts + 1})" if step.retry.attempts else ""
    return f"step {run.step!r} failed: {text}{tries}"


def _after_ending(state: State, job: Job, ending: Ending) -> Iterator[AnyEvent | AnyEffect]:
    """Nothing is active any more: go on as the ending says."""
    definition = state.definition(job)
    match ending.why:
        case "fail":
            target = (
                None if ending.final or not ending.step else _on_fail(job, definition, ending.step)
            )
            if target is not None:
                yield from _enter(state, job, [(target, "fail")])
            elif job.cancelling:
                yield events.JobFinished(
                    job_id=job.id, status=JobStatus.CANCELLED, error=f"clean-up: {ending.error}"
                )
            else:
                yield events.JobFinished(
                    job_id=job.id, status=JobStatus.FAILED, error=_first_error(job)
                )
        case "cancel":
            wanted = [step_of(definition, name).on_cancel for name in ending.steps]
            targets = list(dict.fromkeys(name for name in wanted if name is not None))
            if not targets and definition.on_cancel is not None and job.runs:
                targets = [name for name in (definition.on_cancel,) if name not in ending.steps]
            if targets and job.runs:
                yield from _enter(state, job, [(name, "cancel") for name in targets])
            else:
                yield events.JobFinished(
                    job_id=job.id, status=JobStatus.CANCELLED, error=ending.error
                )
        case _:
            if _interrupted(definition, job).steps:
                yield events.JobFinished(
                    job_id=job.id, status=JobStatus.SUSPENDED, error=_first_error(job)
                )
            else:  # the last step was done before it could be suspended
                yield from _complete(state, job)


def _on_fail(job: Job, definition: JobDef, name: str) -> str | None:
    """Where a failure of the step leads: its own on_fail, else the job's (not while cancelling, not to itself)."""
    own = step_of(definition, name).on_fail
    if own is not None:
        return own
    if job.cancelling or definition.on_fail == name:
        return None
    return definition.on_fail


def _complete(state: State, job: Job) -> Iterator[AnyEvent | AnyEffect]:
    """Nothing is active and nothing follows."""
    definition = state.definition(job)
    if job.cancelling:
        yield events.JobFinished(
            job_id=job.id, status=JobStatus.CANCELLED, error="cancelled by request"
        )
        return
    if job.failing:
        yield events.JobFinished(job_id=job.id, status=JobStatus.FAILED, error=job.error)
        return
    for step in definition.steps:
        missing = [name for name in step.after if name not in job.marks]
        if missing and len(missing) < len(step.after):
            error = f"step {step.name!r} never started: it waits for {', '.join(missing)}, which did not run to its end"
            yield events.JobFinished(job_id=job.id, status=JobStatus.FAILED, error=error)
            return
    if definition.on_done and not job.closing:
        yield from _enter(state, job, [(name, "job_done") for name in definition.on_done])
        return
    yield events.JobFinished(job_id=job.id, status=JobStatus.DONE)


# --- orders ----------------------------------------------------------------------------------------------------------


def _timeout(job: Job, run: Run) -> effects.SetTimer:
    return effects.SetTimer(
        key=f"timeout:{job.id}/{run.run}",
        at=run.deadline_at,
        fact=events.StepTimedOut(job_id=job.id, run=run.run),
    )


def _retry_timer(job_id: JobId, due: events.StepRetryScheduled | Run) -> effects.SetTimer:
    return effects.SetTimer(
        key=f"retry:{job_id}/{due.run}",
        at=due.at if isinstance(due, events.StepRetryScheduled) else due.retry_at,
        fact=events.StepStarted(
            job_id=job_id,
            step=due.step,
            run=due.run,
            visit=due.visit,
            attempt=due.attempt,
            via="retry",
            timeout_ms=due.timeout_ms,
        ),
    )


def label_of(job: Job, run: Run) -> str:
    """How log lines name the run: the step, with `#n` from its second run on."""
    nth = sum(1 for other in job.runs[: run.run] if other.step == run.step)
    return run.step if nth == 1 else f"{run.step}#{nth}"


def _end(state: State, job: Job, run: Run) -> Iterator[AnyEffect]:
    """The order to end a shell run; agent.py ends the sessions."""
    if isinstance(step_of(state.definition(job), run.step).run, RunShell):
        yield effects.EndStep(
            job_id=job.id, run=run.run, label=label_of(job, run), place=place_of(state, job)
        )


def _start(state: State, job: Job, run: Run) -> Iterator[AnyEvent | AnyEffect]:
    """The order to start a shell run, or the fact that it cannot start; agent.py starts the sessions."""
    step = step_of(state.definition(job), run.step)
    values = {**values_of(job), "step": run.step}
    if not isinstance(step.run, RunShell):
        return
    shell = step.run.shell
    directory = values["workspace"]
    try:
        check_place(state, job)
        env = {name: template.render(text, values, job.env) for name, text in step.env.items()}
        bound = template.resolve(shell.bindings, values)
        if step.cwd is not None:
            directory = _join(directory, template.render(step.cwd, values, job.env))
    except OjError as error:
        yield events.StepExited(
            job_id=job.id, run=run.run, error=f"could not start: {error.message}"
        )
        return
    own = {"OJ_PROJECT": job.project, "OJ_JOB_ID": job.id, "OJ_STEP_NAME": run.step}
    yield effects.StartStep(
        job_id=job.id,
        run=run.run,
        step=run.step,
        label=label_of(job, run),
        script=shell.script,
        env={**job.env, **env, **bound, **own},
        cwd=directory,
        place=place_of(state, job),
    )


def _join(base: str, path: str) -> str:
    """`path` as seen from `base`; an absolute path stays."""
    return path if path.startswith("/") else f"{base.rstrip('/')}/{path}" if path else base
