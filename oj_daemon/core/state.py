"""What is true now: dictionaries of frozen records.

Rule: only `apply` functions change it, record by record (records are frozen and replaced), so a shallow copy of the
dictionaries is a consistent picture. Indexes at the end of `State` are derived and never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from oj_daemon.core.events import AnyEvent
from oj_daemon.errors import Rejected
from oj_daemon.runbook.model import CommandDef, JobDef, Runbook, StepDef
from oj_daemon.wire.names import (
    JobId,
    JobStatus,
    StepStatus,
    WorkspaceId,
    WorkspaceKind,
    WorkspaceStatus,
    short_id,
)
from oj_daemon.wire.replies import AnyReply

ACTIVE: Final = frozenset({StepStatus.PENDING, StepStatus.RUNNING, StepStatus.WAITING})
"""Statuses of a run that is not over."""


class Data(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of all records; they hold no cycles, so the collector need not look at a hundred thousand of them."""


class Run(Data, frozen=True):
    """One try of one step."""

    run: int
    step: str
    visit: int
    attempt: int
    status: StepStatus
    via: str = "entry"
    started_at: int = 0
    finished_at: int = 0
    exit_code: int | None = None
    error: str = ""
    retry_at: int = 0
    deadline_at: int = 0
    timed_out: bool = False
    timeout_ms: int | None = None
    """Of a run that waits for its turn (retry)."""


class Ending(Data, frozen=True):
    """Why the active steps are being ended, and which they were."""

    why: str
    step: str = ""
    error: str = ""
    final: bool = False
    steps: tuple[str, ...] = ()


class ResumePoint(Data, frozen=True):
    """Where a resume goes on: the interrupted steps and the fan-in marks of that moment."""

    steps: tuple[str, ...]
    marks: tuple[str, ...] = ()


class Job(Data, frozen=True):
    """An instance of a job definition."""

    id: JobId
    kind: str
    name: str
    project: str
    project_root: str
    runbook: str
    invoke_dir: str
    status: JobStatus = JobStatus.PENDING
    vars: dict[str, str] = {}
    env: dict[str, str] = {}
    cwd: str = ""
    repo_root: str = ""
    evaluate: bool = False
    """Locals or ref still wait to be evaluated."""
    workspace: WorkspaceId | None = None
    starting: tuple[str, ...] = ()
    """Steps that start once the job is prepared."""
    runs: tuple[Run, ...] = ()
    visits: dict[str, int] = {}
    """How often each step was entered by a transition; reset by resume."""
    marks: tuple[str, ...] = ()
    """Done steps that a fan-in still counts."""
    ending: Ending | None = None
    failing: bool = False
    """Clean-up after a failure is running; `error` is the first error."""
    cancelling: bool = False
    closing: bool = False
    """The job-level on_done steps are running."""
    resume_point: ResumePoint | None = None
    error: str = ""
    created_at: int = 0
    updated_at: int = 0
    finished_at: int = 0
    key: str = ""

    @property
    def active(self) -> tuple[Run, ...]:
        """Runs that are not over."""
        return tuple(run for run in self.runs if run.status in ACTIVE)

    def run_of(self, number: int) -> Run | None:
        """The run of that number."""
        return self.runs[number - 1] if 0 < number <= len(self.runs) else None


class Workspace(Data, frozen=True):
    """The private directory of a job."""

    id: WorkspaceId
    job_id: JobId
    kind: WorkspaceKind
    path: str
    status: WorkspaceStatus = WorkspaceStatus.CREATING
    reason: str = ""
    project: str = ""
    repo: str = ""
    branch: str = ""
    ref: str = ""
    base: str = ""
    own_branch: bool = False
    created_at: int = 0


class Project(Data, frozen=True):
    """A project that was used."""

    name: str
    root: str
    seen_at: int = 0


class StateData(msgspec.Struct, omit_defaults=True):
    """What a snapshot holds."""

    jobs: list[Job] = []
    """Oldest change first."""
    workspaces: list[Workspace] = []
    projects: list[Project] = []
    runbooks: dict[str, Runbook] = {}


class State:
    """All records, by id."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        """Oldest change first: a record that changes moves to the end."""
        self.workspaces: dict[WorkspaceId, Workspace] = {}
        self.projects: dict[str, Project] = {}
        self.runbooks: dict[str, Runbook] = {}
        # Derived.
        self.live: dict[JobId, None] = {}
        """Jobs that have not ended; suspended ones count as live."""
        self.failed: dict[JobId, None] = {}
        """Failed jobs, oldest first."""
        self.keys: dict[str, JobId] = {}
        """Idempotency key -> job."""
        self.runbook_uses: dict[str, int] = {}

    # Changing: for `apply` only.

    def put_job(self, job: Job) -> None:
        """Store a new or changed job and move it to the end."""
        old = self.jobs.pop(job.id, None)
        self.jobs[job.id] = job
        if old is None:
            self.runbook_uses[job.runbook] = self.runbook_uses.get(job.runbook, 0) + 1
            if job.key:
                self.keys[job.key] = job.id
        if old is None or old.status is not job.status:
            self._index(job)

    def drop_job(self, job_id: JobId) -> None:
        """Forget a job, and its runbook when nothing else uses it."""
        job = self.jobs.pop(job_id)
        self.live.pop(job_id, None)
        self.failed.pop(job_id, None)
        self.keys.pop(job.key, None)
        left = self.runbook_uses[job.runbook] - 1
        if left:
            self.runbook_uses[job.runbook] = left
        else:
            del self.runbook_uses[job.runbook]
            self.runbooks.pop(job.runbook, None)

    def _index(self, job: Job) -> None:
        if job.status.is_terminal and job.status is not JobStatus.SUSPENDED:
            self.live.pop(job.id, None)
        else:
            self.live[job.id] = None
        if job.status is JobStatus.FAILED:
            self.failed[job.id] = None
        else:
            self.failed.pop(job.id, None)

    # Reading.

    def definition(self, job: Job) -> JobDef:
        """The job's definition, as it was when the job was made."""
        return self.runbooks[job.runbook].jobs[job.kind]

    def find_job(self, ref: str) -> Job:
        """By id, unique prefix of the id or of its part after the prefix, or name of one job that has not ended."""
        exact = self.jobs.get(JobId(ref))
        if exact is not None:
            return exact
        return self.jobs[JobId(self._find(ref, "Job", self.jobs, self._named(ref)))]

    def _named(self, name: str) -> list[str]:
        return [id_ for id_ in self.live if self.jobs[id_].name == name]

    def find_workspace(self, ref: str) -> Workspace:
        """By id or unique prefix."""
        exact = self.workspaces.get(WorkspaceId(ref))
        if exact is not None:
            return exact
        return self.workspaces[WorkspaceId(self._find(ref, "Workspace", self.workspaces, []))]

    def _find(self, ref: str, noun: str, ids: Iterable[str], named: list[str]) -> str:
        found = [id_ for id_ in ids if ref and (id_.startswith(ref) or id_.startswith(ref, 4))]
        if not found:
            found = named
        if len(found) == 1:
            return found[0]
        listing = noun.lower()
        if not found:
            raise Rejected(
                f"{noun} not found: {ref}", code="not_found", hint=f"oj {listing} list --no-limit"
            )
        shown = ", ".join(short_id(id_) for id_ in found[:8]) + (", ..." if len(found) > 8 else "")
        raise Rejected(
            f"{ref!r} could be any of {len(found)} {listing}s: {shown}",
            code="ambiguous",
            hint="type more characters of the id",
        )

    # Snapshots.

    def dump(self) -> StateData:
        """The stored part; shares the frozen records."""
        return StateData(
            jobs=list(self.jobs.values()),
            workspaces=list(self.workspaces.values()),
            projects=list(self.projects.values()),
            runbooks=dict(self.runbooks),
        )

    @classmethod
    def load(cls, data: StateData) -> State:
        """The state that `dump` was made of."""
        state = cls()
        state.runbooks = dict(data.runbooks)
        for job in data.jobs:
            state.put_job(job)
        state.workspaces = {workspace.id: workspace for workspace in data.workspaces}
        state.projects = {project.name: project for project in data.projects}
        return state


class Policy(msgspec.Struct, frozen=True):
    """What the profile and the settings decide for the core."""

    workspaces_dir: str = "/workspaces"
    state_dir: str = "/state"


class Resolved(msgspec.Struct, frozen=True):
    """What the caller's runbook texts say about the command that is to run."""

    runbook: Runbook
    hash: str
    command: CommandDef
    warnings: tuple[str, ...] = ()


class Turn:
    """Everything a decision may know besides the state."""

    def __init__(
        self,
        *,
        now: int,
        fresh: Callable[[str], str],
        policy: Policy | None = None,
        resolved: Resolved | None = None,
    ) -> None:
        self.now = now
        """Epoch milliseconds."""
        self.fresh = fresh
        """Prefix -> a new id."""
        self.policy = policy or Policy()
        self.resolved = resolved
        """For RunCommand."""


class Answer:
    """What a request gets: a reply, and the facts that make it true."""

    def __init__(self, reply: AnyReply, facts: list[AnyEvent] | None = None) -> None:
        self.reply = reply
        self.facts = facts or []


Changes = dict[type, Callable[..., None]]
"""Fact -> the function that makes it true, called with the state, the fact and its time."""


def step_of(definition: JobDef, name: str) -> StepDef:
    """The step of that name; there is one, the runbook was validated."""
    return next(step for step in definition.steps if step.name == name)


def check(state: State) -> Iterator[str]:
    """Invariants that hold between turns; yields what is broken (for tests and the chaos script)."""
    for job in state.jobs.values():
        active = job.active
        if job.runbook not in state.runbooks:
            yield f"{job.id}: runbook {job.runbook[:8]} is gone"
        if job.status.is_terminal and active:
            yield f"{job.id}: {job.status} with active steps {[run.step for run in active]}"
        if job.status.is_terminal != bool(job.finished_at):
            yield f"{job.id}: {job.status} with finished_at {job.finished_at}"
        if job.status is JobStatus.RUNNING and not active:
            yield f"{job.id}: running with nothing active"
        if job.status is JobStatus.ENDING and (job.ending is None or not active):
            yield f"{job.id}: ending with nothing to end"
        if job.status is JobStatus.PENDING and (active or not job.starting):
            yield f"{job.id}: pending, but not about to start"
        if [run.run for run in job.runs] != list(range(1, len(job.runs) + 1)):
            yield f"{job.id}: run numbers {[run.run for run in job.runs]}"
        names = [run.step for run in active]
        if len(names) != len(set(names)):
            yield f"{job.id}: a step is active twice: {names}"
        if job.workspace is not None and job.workspace not in state.workspaces:
            yield f"{job.id}: workspace {job.workspace} is unknown"
    for workspace in state.workspaces.values():
        if workspace.job_id not in state.jobs and workspace.status is not WorkspaceStatus.DELETING:
            yield f"{workspace.id}: owner {workspace.job_id} is gone"
