"""Every order: what the world shall do.

Rule: orders leave only after the record of their turn is durable, and may leave twice (a crash between deed and answer), so
each names what it acts on by an id that the deed can recognise. The docstring names the facts that answer it.
"""

from __future__ import annotations

import msgspec

from oj_daemon.core.events import AnyEvent
from oj_daemon.runbook.model import Text
from oj_daemon.wire.names import JobId, WorkspaceId, WorkspaceKind


class Effect(msgspec.Struct, frozen=True):
    """Base of all orders."""


class EvaluateJob(Effect, frozen=True):
    """Evaluate locals (in order) and ref. Answers: JobEvaluated, JobEvaluateFailed."""

    job_id: JobId
    locals: tuple[tuple[str, Text], ...]
    ref: Text | None
    values: dict[str, str]
    env: dict[str, str]
    cwd: str


class EndLocals(Effect, frozen=True):
    """End what still evaluates the job's locals, and remove its run folders: the answers are known, or nobody wants them."""

    job_id: JobId


class StartStep(Effect, frozen=True):
    """Start the run, or pick it up where it is. Answers: StepExited."""

    job_id: JobId
    run: int
    step: str
    label: str
    """How log lines name the run: the step, with `#n` from the second run on."""
    script: str
    env: dict[str, str]
    cwd: str


class EndStep(Effect, frozen=True):
    """End everything the run started; a run that never began never will. Answers: StepExited."""

    job_id: JobId
    run: int
    label: str


class ForgetRun(Effect, frozen=True):
    """Remove the run's folder."""

    job_id: JobId
    run: int


class CloseLog(Effect, frozen=True):
    """Let go of the job's log: the job has ended, and there may be tens of thousands like it."""

    job_id: JobId


class ForgetJob(Effect, frozen=True):
    """Remove the job's log and run folders."""

    job_id: JobId


class CreateWorkspace(Effect, frozen=True):
    """Answers: WorkspaceReady, WorkspaceFailed."""

    workspace_id: WorkspaceId
    job_id: JobId
    kind: WorkspaceKind
    path: str
    repo: str = ""
    branch: str = ""
    ref: str = ""


class DeleteWorkspace(Effect, frozen=True):
    """Answers: WorkspaceDeleted, WorkspaceDeleteFailed."""

    workspace_id: WorkspaceId
    job_id: JobId
    kind: WorkspaceKind
    path: str
    repo: str = ""
    branch: str = ""
    base: str = ""
    own_branch: bool = False


class Notify(Effect, frozen=True):
    """Tell people."""

    title: str
    text: str
    job_id: JobId


class SetTimer(Effect, frozen=True):
    """Report `fact` at `at`; replaces a timer of the same key."""

    key: str
    at: int
    """Epoch milliseconds."""
    fact: AnyEvent


class CancelTimer(Effect, frozen=True):
    """Forget the timer."""

    key: str


AnyEffect = (
    EvaluateJob
    | EndLocals
    | StartStep
    | EndStep
    | ForgetRun
    | CloseLog
    | ForgetJob
    | CreateWorkspace
    | DeleteWorkspace
    | Notify
    | SetTimer
    | CancelTimer
)
