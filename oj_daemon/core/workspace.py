"""Workspaces: the private directory of a job.

Rule: a workspace is made once its job needs it, kept while its job may still be resumed (failed, suspended), and removed
when the job is completed or cancelled, or when someone asks. One that holds work that is nowhere else stays all the same, until
someone asks for just that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

from msgspec import structs

from oj_daemon.core import effects, events
from oj_daemon.core.effects import AnyEffect
from oj_daemon.core.events import AnyEvent
from oj_daemon.core.state import (
    Answer,
    Changes,
    Reactions,
    State,
    Turn,
    Workspace,
    creation,
)
from oj_daemon.core.views import workspace_view
from oj_daemon.errors import Rejected
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import TERMINAL, JobId, JobStatus, WorkspaceId, WorkspaceStatus, short_id

PRUNE_AGE_MS: Final = 12 * 3_600_000
"""How long workspaces are kept by `oj workspace prune` without `--all` (spec 6.8)."""


def admit(state: State, request: requests.WorkspaceRequest, turn: Turn) -> Answer:
    """Decide which workspaces go; raises Rejected when none was named."""
    match request:
        case requests.WorkspaceDrop():
            return _admit_drop(state, request)
        case requests.WorkspacePrune():
            return _admit_prune(state, request, turn)
        case _:
            assert_never(request)


def _admit_drop(state: State, request: requests.WorkspaceDrop) -> Answer:
    if request.id is not None:
        chosen = [state.find_workspace(request.id)]
    elif request.failed or request.all:
        chosen = [
            workspace
            for workspace in state.workspaces.values()
            if (request.project is None or workspace.project == request.project)
            and (request.all or _is_failed(state, workspace))
        ]
    else:
        raise Rejected(
            "nothing to drop: name a workspace, or use --failed or --all",
            code="invalid",
            hint="oj workspace list",
        )
    dropped: list[replies.WorkspaceView] = []
    skipped: list[tuple[str, str]] = []
    facts: list[AnyEvent] = []
    for workspace in chosen:
        reason = "" if request.force else _in_use(state, workspace)
        if reason:
            skipped.append((workspace.id, reason))
            continue
        dropped.append(workspace_view(state, workspace))
        # Who names a single one knows what is in it.
        force = request.force or request.id is not None
        facts.append(events.WorkspaceDeleting(workspace_id=workspace.id, force=force))
    if request.id is not None and skipped:
        raise Rejected(
            f"cannot drop workspace {short_id(skipped[0][0])}: {skipped[0][1]}",
            code="conflict",
            hint="cancel the job first, or use --force",
        )
    return Answer(replies.WorkspacesDropped(dropped=tuple(dropped), skipped=tuple(skipped)), facts)


def _is_failed(state: State, workspace: Workspace) -> bool:
    job = state.jobs.get(workspace.job_id)
    return workspace.status is WorkspaceStatus.FAILED or (
        job is not None and job.status is JobStatus.FAILED
    )


def _in_use(state: State, workspace: Workspace) -> str:
    """Why the workspace must stay, or nothing. A suspended job needs its workspace as much as a running one."""
    job = state.jobs.get(workspace.job_id)
    if job is None or (job.status in TERMINAL and job.status is not JobStatus.SUSPENDED):
        return ""
    return f"job {short_id(job.id)} is {job.status}"


def _admit_prune(state: State, request: requests.WorkspacePrune, turn: Turn) -> Answer:
    pruned: list[replies.PrunedEntry] = []
    facts: list[AnyEvent] = []
    skipped = 0
    for workspace in state.workspaces.values():
        if request.project is not None and workspace.project != request.project:
            continue
        job = state.jobs.get(workspace.job_id)
        since = job.finished_at if job is not None else workspace.created_at
        young = not request.all and turn.now - since < PRUNE_AGE_MS
        if _in_use(state, workspace) or young:
            skipped += 1
            continue
        pruned.append(
            replies.PrunedEntry(id=workspace.id, name=workspace.path, detail=str(workspace.status))
        )
        facts.append(events.WorkspaceDeleting(workspace_id=workspace.id))
    reply = replies.Pruned(dry_run=request.dry_run, pruned=tuple(pruned), skipped=skipped)
    return Answer(reply, [] if request.dry_run else facts)


def accepts(state: State, event: events.WorkspaceEvent) -> bool:
    """Whether the fact may still become true."""
    if isinstance(event, events.WorkspaceCreated):
        return True
    workspace = state.workspaces.get(event.workspace_id)
    if workspace is None:
        return False
    match event:
        case events.WorkspaceReady() | events.WorkspaceFailed():
            return workspace.status is WorkspaceStatus.CREATING
        case events.WorkspaceWaits(reason=reason):
            return reason != workspace.waits_for
        case events.WorkspaceMoved():
            return bool(workspace.runtime)
        case events.WorkspaceDeleting():
            # Asked again after a failed removal: try again.
            return workspace.status is not WorkspaceStatus.DELETING or bool(workspace.reason)
        case events.WorkspaceDeleted() | events.WorkspaceKept() | events.WorkspaceDeleteFailed():
            return workspace.status is WorkspaceStatus.DELETING
        case _:
            assert_never(event)


def _created(state: State, event: events.WorkspaceCreated, at: int) -> None:
    state.workspaces.pop(event.workspace_id, None)
    state.workspaces[event.workspace_id] = Workspace(
        id=event.workspace_id,
        job_id=event.job_id,
        kind=event.kind,
        path=event.path,
        project=event.project,
        repo=event.repo,
        branch=event.branch,
        ref=event.ref,
        own_branch=event.own_branch,
        start=event.start,
        head=event.head,
        folder=event.folder,
        all_branches=event.all_branches,
        runtime=event.runtime,
        created_at=at,
    )


def _ready(state: State, event: events.WorkspaceReady, _at: int) -> None:
    _put(
        state,
        event.workspace_id,
        status=WorkspaceStatus.READY,
        base=event.base,
        route=event.route,
        waits_for="",
    )


def _waits(state: State, event: events.WorkspaceWaits, _at: int) -> None:
    _put(state, event.workspace_id, waits_for=event.reason)


def _moved(state: State, event: events.WorkspaceMoved, _at: int) -> None:
    _put(state, event.workspace_id, route=event.route, waits_for="")


def _failed(state: State, event: events.WorkspaceFailed, _at: int) -> None:
    _put(state, event.workspace_id, status=WorkspaceStatus.FAILED, reason=event.reason)


def _deleting(state: State, event: events.WorkspaceDeleting, _at: int) -> None:
    _put(state, event.workspace_id, status=WorkspaceStatus.DELETING, reason="", force=event.force)


def _kept(state: State, event: events.WorkspaceKept, _at: int) -> None:
    _put(state, event.workspace_id, status=WorkspaceStatus.KEPT, reason=event.reason)


def _delete_failed(state: State, event: events.WorkspaceDeleteFailed, _at: int) -> None:
    _put(state, event.workspace_id, reason=event.reason)


def _deleted(state: State, event: events.WorkspaceDeleted, _at: int) -> None:
    del state.workspaces[event.workspace_id]


def _put(state: State, workspace_id: WorkspaceId, **changes: object) -> None:
    state.workspaces[workspace_id] = structs.replace(state.workspaces[workspace_id], **changes)


CHANGES: Final[Changes] = {
    events.WorkspaceCreated: _created,
    events.WorkspaceReady: _ready,
    events.WorkspaceWaits: _waits,
    events.WorkspaceMoved: _moved,
    events.WorkspaceFailed: _failed,
    events.WorkspaceDeleting: _deleting,
    events.WorkspaceKept: _kept,
    events.WorkspaceDeleteFailed: _delete_failed,
    events.WorkspaceDeleted: _deleted,
}
"""What each fact makes true of the workspace records."""


def _on_created(state: State, event: events.WorkspaceCreated, _turn: Turn) -> Iterator[AnyEffect]:
    yield creation(state, state.workspaces[event.workspace_id])


def _on_deleting(state: State, event: events.WorkspaceDeleting, _turn: Turn) -> Iterator[AnyEffect]:
    yield _delete(state.workspaces[event.workspace_id])


def _on_job_finished(state: State, event: events.JobFinished, _turn: Turn) -> Iterator[AnyEvent]:
    if event.status in (JobStatus.DONE, JobStatus.CANCELLED):
        workspace = _of_job(state, event.job_id)
        if workspace is not None:
            yield events.WorkspaceDeleting(workspace_id=workspace.id)


REACTIONS: Final[Reactions] = {
    events.WorkspaceCreated: _on_created,
    events.WorkspaceDeleting: _on_deleting,
    events.JobFinished: _on_job_finished,
}
"""What follows for workspaces now that the fact is true."""


def recover(state: State) -> Iterator[AnyEvent | AnyEffect]:
    """Orders whose answers a crash may have eaten."""
    for workspace in state.workspaces.values():
        if workspace.status is WorkspaceStatus.CREATING:
            yield creation(state, workspace)
        elif workspace.status is WorkspaceStatus.DELETING:
            yield _delete(workspace)
        elif workspace.status is WorkspaceStatus.READY and workspace.waits_for:
            # Whoever still waits says so again.
            yield events.WorkspaceWaits(workspace_id=workspace.id, reason="")


def _of_job(state: State, job_id: JobId) -> Workspace | None:
    job = state.jobs.get(job_id)
    return (
        state.workspaces.get(job.workspace)
        if job is not None and job.workspace is not None
        else None
    )


def _delete(workspace: Workspace) -> effects.DeleteWorkspace:
    return effects.DeleteWorkspace(
        workspace_id=workspace.id,
        job_id=workspace.job_id,
        kind=workspace.kind,
        path=workspace.path,
        repo=workspace.repo,
        branch=workspace.branch,
        base=workspace.base,
        own_branch=workspace.own_branch,
        force=workspace.force,
        runtime=workspace.runtime,
        route=workspace.route,
    )
