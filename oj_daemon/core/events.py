"""Every fact: what became true.

Rule: a fact is written once, in the record of its turn, and applied exactly once, live and on replay. It carries no time and
no cause: the record of its turn does. New fields have defaults, for ever; a fact is never removed, only no longer made.
"""

from __future__ import annotations

import msgspec

from oj_daemon.runbook.model import Runbook
from oj_daemon.wire.names import JobId, JobStatus, WorkspaceId, WorkspaceKind


class Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, gc=False):
    """Base of all facts; they hold no cycles for the collector to find."""


# Runbooks and projects


class RunbookLoaded(Event, frozen=True, tag="runbook:loaded"):
    """A runbook that something refers to by its hash."""

    hash: str
    runbook: Runbook


class ProjectSeen(Event, frozen=True, tag="project:seen"):
    """A project was used from this folder."""

    name: str
    root: str


# Jobs


class JobCreated(Event, frozen=True, tag="job:created"):
    """Someone asked for a job, and it was acknowledged."""

    job_id: JobId
    kind: str
    name: str
    project: str
    project_root: str
    runbook: str
    """Hash."""
    invoke_dir: str
    vars: dict[str, str] = {}
    """Namespaced: var.*, source.*, invoke.*, local.* (those that need no evaluation)."""
    env: dict[str, str] = {}
    """The caller's values of names mentioned as `${NAME:-default}`."""
    cwd: str = ""
    """Where its steps run when it has no workspace."""
    repo_root: str = ""
    evaluate: bool = False
    """Some locals or the ref hold `$(...)` and have to be evaluated first."""
    key: str = ""


class JobEvaluated(Event, frozen=True, tag="job:evaluated"):
    """Locals and ref have values."""

    job_id: JobId
    vars: dict[str, str]


class JobEvaluateFailed(Event, frozen=True, tag="job:evaluate_failed"):
    """A local or the ref could not be evaluated."""

    job_id: JobId
    error: str


class JobEnding(Event, frozen=True, tag="job:ending"):
    """The active steps of the job are to be ended, then it goes on as `why` says."""

    job_id: JobId
    why: str
    """fail, cancel or suspend."""
    step: str = ""
    """The step that failed."""
    error: str = ""
    final: bool = False
    """No clean-up step follows (circuit breaker)."""


class JobFinished(Event, frozen=True, tag="job:finished"):
    """Nothing more happens to the job unless someone asks."""

    job_id: JobId
    status: JobStatus
    error: str = ""


class JobResumed(Event, frozen=True, tag="job:resumed"):
    """Someone asked for a failed or suspended job to go on at these steps."""

    job_id: JobId
    steps: tuple[str, ...]
    vars: dict[str, str] = {}
    """Namespaced; replace older values."""
    message: str = ""


class JobDeleted(Event, frozen=True, tag="job:deleted"):
    """The job was pruned."""

    job_id: JobId


# Steps


class StepStarted(Event, frozen=True, tag="step:started"):
    """A run of a step begins."""

    job_id: JobId
    step: str
    run: int
    visit: int = 1
    attempt: int = 1
    via: str = "entry"
    """entry, done (a transition), join (`after`), job_done, fail, cancel, resume, retry."""
    timeout_ms: int | None = None


class StepTimedOut(Event, frozen=True, tag="step:timed_out"):
    """The run's timeout passed; it is being ended."""

    job_id: JobId
    run: int


class StepExited(Event, frozen=True, tag="step:exited"):
    """Nothing of the run is left."""

    job_id: JobId
    run: int
    exit_code: int | None = None
    """128+n after signal n; None when there was no exit status (see `error`)."""
    error: str = ""
    """Why it has no exit status, or why it could not start."""
    ended: bool = False
    """We ended it: it had not exited by itself before."""


class StepRetryScheduled(Event, frozen=True, tag="step:retry_scheduled"):
    """The failed step will be tried again."""

    job_id: JobId
    step: str
    run: int
    """Number of the coming run."""
    visit: int
    attempt: int
    at: int
    """Epoch milliseconds."""
    timeout_ms: int | None = None


# Workspaces


class WorkspaceCreated(Event, frozen=True, tag="workspace:created"):
    """A workspace is being made for a job; made again when the job had one that is gone."""

    workspace_id: WorkspaceId
    job_id: JobId
    kind: WorkspaceKind
    path: str
    project: str = ""
    repo: str = ""
    branch: str = ""
    ref: str = ""
    own_branch: bool = False
    """The branch name was made up by us."""


class WorkspaceReady(Event, frozen=True, tag="workspace:ready"):
    """Steps can run in it."""

    workspace_id: WorkspaceId
    base: str = ""
    """Commit that the branch started from."""


class WorkspaceFailed(Event, frozen=True, tag="workspace:failed"):
    """It could not be made."""

    workspace_id: WorkspaceId
    reason: str


class WorkspaceDeleting(Event, frozen=True, tag="workspace:deleting"):
    """It is to be removed."""

    workspace_id: WorkspaceId


class WorkspaceDeleted(Event, frozen=True, tag="workspace:deleted"):
    """It is gone."""

    workspace_id: WorkspaceId
    job_id: JobId = JobId("")
    note: str = ""
    """What was kept and why, such as a branch with commits of its own."""


class WorkspaceDeleteFailed(Event, frozen=True, tag="workspace:delete_failed"):
    """It could not be removed; asked for again by drop, prune or the next start."""

    workspace_id: WorkspaceId
    reason: str


JobEvent = (
    JobCreated
    | JobEvaluated
    | JobEvaluateFailed
    | JobEnding
    | JobFinished
    | JobResumed
    | JobDeleted
    | StepStarted
    | StepTimedOut
    | StepExited
    | StepRetryScheduled
)
WorkspaceEvent = (
    WorkspaceCreated
    | WorkspaceReady
    | WorkspaceFailed
    | WorkspaceDeleting
    | WorkspaceDeleted
    | WorkspaceDeleteFailed
)
CatalogEvent = RunbookLoaded | ProjectSeen
AnyEvent = CatalogEvent | JobEvent | WorkspaceEvent


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn in the log."""

    at: int
    """Epoch milliseconds."""
    cause: str
    """The request (`JobCancel`), or `#seq` of the record whose order this answers, or `timer`."""
    facts: tuple[AnyEvent, ...]
