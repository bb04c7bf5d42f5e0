"""Every reply, and the views that screens show.

Rule: a reply is one JSON object whose `type` is the class name. `-o json` prints these shapes (lists print their list), so
fields are only ever added. Times are epoch milliseconds (`*_at_ms`), 0 or null where there is none.
"""

from __future__ import annotations

import msgspec

from oj_daemon.wire.names import JobStatus, StepStatus, WorkspaceKind, WorkspaceStatus


class View(msgspec.Struct, frozen=True):
    """Base of everything shown; all fields are always present in JSON."""


class Reply(View, frozen=True, tag_field="type"):
    """Base of all replies."""


class Ok(Reply, frozen=True, tag=True):
    """Done; nothing to tell."""


class Error(Reply, frozen=True, tag=True):
    """The request was refused or failed; state is as before."""

    message: str
    code: str = "internal"
    """not_found, ambiguous, invalid, conflict, unauthorized, unavailable, internal."""
    hint: str = ""


class HelloReply(Reply, frozen=True, tag=True):
    protocol: int
    version: str


class Choice(View, frozen=True):
    """One setting with the reason for its value."""

    name: str
    value: str
    reason: str


class DaemonInfo(Reply, frozen=True, tag=True):
    """Answers `oj daemon status`."""

    status: str
    """running, or draining."""
    version: str
    protocol: int
    pid: int
    uptime_secs: int
    uptime: str
    jobs_active: int
    orphan_count: int
    """Always 0: jobs come from the log alone, so none can be orphaned; kept for scripts."""
    state_dir: str
    profile: str
    epoch: int
    seq: int
    """Last record of the log."""
    address: str = ""
    """Where `oj` on other machines reaches it, as OJ_DAEMON_URL but with the address it is bound to; empty: it cannot."""
    tls_fingerprint: str = ""
    """SHA-256 of its certificate, lower-case hex, for OJ_TLS_FINGERPRINT; empty without TLS."""
    settings: tuple[Choice, ...] = ()
    warnings: tuple[str, ...] = ()
    ready: bool = True
    """As /readyz says it."""
    waits_for: tuple[str, ...] = ()
    """Why it is not: `condition: reason` of each that is not met."""
    notifications_waiting: int = 0
    """How many nobody could be told of yet."""


class DaemonStopping(Reply, frozen=True, tag=True):
    pid: int
    drain_seconds: float
    jobs_active: int = 0
    """How many jobs had not ended when the stop was asked for."""


class JobStarted(Reply, frozen=True, tag=True):
    """Answers RunCommand; the job is in the log."""

    job_id: str
    name: str
    kind: str
    status: JobStatus
    warnings: tuple[str, ...] = ()


class JobSummary(View, frozen=True):
    id: str
    name: str
    kind: str
    project: str
    status: JobStatus
    step: str
    """Active steps, joined by a comma; the failed step of a failed job; `done` when completed."""
    step_status: str
    """Same word as `status` once the job has ended, else that of the step."""
    reason: str
    """Why the job is in this state, in one line; may be empty."""
    created_at_ms: int
    updated_at_ms: int
    retries: int


class Jobs(Reply, frozen=True, tag=True):
    jobs: tuple[JobSummary, ...]
    total: int
    """How many match without the limit."""


class StepView(View, frozen=True):
    """One run of a step."""

    name: str
    run: int
    """Counts the runs of this job, from 1."""
    visit: int
    """How often the step had been entered."""
    attempt: int
    """1 for the first try of this visit."""
    status: StepStatus
    outcome: str
    """Same as `status`."""
    detail: str
    """Why: error, exit code, or what it waits for."""
    exit_code: int | None
    started_at_ms: int
    finished_at_ms: int
    retry_at_ms: int
    """When the next try starts; 0 when none is due."""
    deadline_at_ms: int
    """When its timeout strikes; 0 for none."""


class StepNode(View, frozen=True):
    """One step as defined, for drawing the graph."""

    name: str
    kind: str
    """shell or agent."""
    on_done: tuple[str, ...]
    on_fail: str
    on_cancel: str
    after: tuple[str, ...]


class WorkspaceView(Reply, frozen=True, tag=True):
    id: str
    path: str
    branch: str
    kind: WorkspaceKind
    status: WorkspaceStatus
    reason: str
    owner: str
    """`job:<id>`."""
    owner_status: str
    project: str
    created_at_ms: int
    place: str = ""
    """Name of the pod that it is in; empty: it is a folder of the daemon's machine."""
    waits_for: str = ""
    """What its place waits for, in words."""


class OptionView(View, frozen=True):
    number: int
    label: str
    description: str
    recommended: bool


class QuestionView(View, frozen=True):
    question: str
    header: str
    multi_select: bool
    options: tuple[OptionView, ...]


class DecisionView(Reply, frozen=True, tag=True):
    id: str
    owner_id: str
    owner_name: str
    project: str
    agent_id: str
    agent_name: str
    step: str
    source: str
    status: str
    summary: str
    """What it is about, in one line."""
    context: str
    options: tuple[OptionView, ...]
    question_groups: tuple[QuestionView, ...]
    choices: tuple[tuple[int, ...], ...]
    message: str
    by: str
    channel: str
    note: str
    """Why it was closed, or what became of the answer."""
    created_at_ms: int
    resolved_at_ms: int
    deadline_at_ms: int
    default: str


class UsageView(View, frozen=True):
    """What a session spent so far."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    total_cost_usd: float = 0.0
    request_count: int = 0
    total_api_ms: int = 0


class AgentView(Reply, frozen=True, tag=True):
    id: str
    name: str
    owner: str
    """`job:<id>` or `crew:<id>`."""
    job_name: str
    step: str
    project: str
    status: str
    state: str
    """As its sidecar last reported."""
    detail: str
    """What it waits for, or the error."""
    last_message: str
    session_id: str
    runtime: str
    attempts: dict[str, int]
    exit_reason: str
    created_at_ms: int
    updated_at_ms: int
    finished_at_ms: int
    decision_id: str = ""
    """The decision that it waits for, open or put aside."""

    files_read: int = 0
    files_written: int = 0
    commands: int = 0
    """Counts of lines in its log."""
    usage: UsageView | None = None
    """None where its program does not tell."""


class JobDetail(Reply, frozen=True, tag=True):
    id: str
    name: str
    kind: str
    project: str
    status: JobStatus
    step: str
    step_status: str
    reason: str
    error: str
    created_at_ms: int
    updated_at_ms: int
    finished_at_ms: int
    retries: int
    cwd: str
    vars: dict[str, str]
    """Only the scopes var, local, source, invoke, args."""
    workspace: WorkspaceView | None
    workspace_path: str
    steps: tuple[StepView, ...]
    """Every run so far, in order of start."""
    graph: tuple[StepNode, ...]
    runbook: str
    """Path of the file that defines it."""
    log_path: str
    seq: int
    """Last change, for Watch."""
    agents: tuple[AgentView, ...] = ()
    """Every session so far, oldest first."""
    decisions: tuple[DecisionView, ...] = ()
    """Those that are open, oldest first."""


class LogChunk(View, frozen=True):
    content: str
    offset: int
    """Where to go on reading."""
    restarted: bool = False
    """The log was shorter than the offset that was asked for; this is from its beginning."""


class Log(Reply, frozen=True, tag=True):
    log_path: str
    content: str
    offset: int
    restarted: bool = False
    has_more: bool = False
    """The reply was limited; ask again with `offset` for the rest."""


class StoryLine(View, frozen=True):
    seq: int
    at_ms: int
    cause: str
    fact: str
    """Tag of the fact."""
    data: dict[str, object]
    job_id: str = ""
    """The job that it is news of; empty where there is none, or none any more."""


class Story(Reply, frozen=True, tag=True):
    lines: tuple[StoryLine, ...]
    complete: bool
    """False when the oldest part was already dropped after a snapshot."""


class Changes(Reply, frozen=True, tag=True):
    """Answers Watch."""

    seq: int
    """Pass as `since` next time."""
    epoch: int = 0
    """Pass on, too: which daemon counts."""
    is_snapshot: bool = False
    """Forget what was told before: this is all there is."""
    jobs: tuple[JobSummary, ...] = ()
    """Those that changed, or of which something below did. What else belongs to one of them is told whole, too:"""
    agents: tuple[AgentView, ...] = ()
    decisions: tuple[DecisionView, ...] = ()
    """Open ones, and those put aside."""
    workspaces: tuple[WorkspaceView, ...] = ()
    gone: tuple[str, ...] = ()
    """Ids of jobs that were pruned, with all that belonged to them."""
    overview: Overview | None = None
    """None: nothing that it shows has changed."""
    facts: tuple[StoryLine, ...] = ()
    """Oldest first."""
    is_gapless: bool = True
    """False when facts after `since` are in the log no more."""
    details: tuple[JobDetail, ...] = ()
    """Of the jobs asked for by id, those that changed."""
    missing: tuple[str, ...] = ()
    """Asked for by id, but unknown (or pruned meanwhile)."""
    logs: dict[str, LogChunk] = {}


class Ambiguous(View, frozen=True):
    id: str
    candidates: tuple[str, ...]


class JobsCancelled(Reply, frozen=True, tag=True):
    cancelled: tuple[str, ...]
    already_terminal: tuple[str, ...]
    not_found: tuple[str, ...]
    ambiguous: tuple[Ambiguous, ...] = ()


class JobsSuspended(Reply, frozen=True, tag=True):
    suspended: tuple[str, ...]
    already_terminal: tuple[str, ...]
    not_found: tuple[str, ...]
    ambiguous: tuple[Ambiguous, ...] = ()


class JobResumed(Reply, frozen=True, tag=True):
    id: str
    steps: tuple[str, ...]
    """Steps that run now."""
    warnings: tuple[str, ...] = ()


class JobsResumed(Reply, frozen=True, tag=True):
    resumed: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    """Id, reason."""


class PrunedEntry(View, frozen=True):
    id: str
    name: str
    detail: str


class Pruned(Reply, frozen=True, tag=True):
    dry_run: bool
    pruned: tuple[PrunedEntry, ...]
    skipped: int


class Workspaces(Reply, frozen=True, tag=True):
    workspaces: tuple[WorkspaceView, ...]
    total: int


class WorkspacesDropped(Reply, frozen=True, tag=True):
    dropped: tuple[WorkspaceView, ...]
    skipped: tuple[tuple[str, str], ...]
    """Id, reason."""


class Decisions(Reply, frozen=True, tag=True):
    decisions: tuple[DecisionView, ...]


class DecisionResolved(Reply, frozen=True, tag=True):
    id: str


class Agents(Reply, frozen=True, tag=True):
    agents: tuple[AgentView, ...]
    total: int


class AgentScreen(Reply, frozen=True, tag=True):
    agent_id: str
    name: str
    status: str
    live: bool
    """It is read from the running session; else it is the last one that was kept."""
    lines: tuple[str, ...] = ()
    """Empty when no screen was kept."""
    ansi: tuple[str, ...] = ()
    """The same with colours."""
    cols: int = 0
    rows: int = 0


class AgentLog(View, frozen=True):
    """The log of one agent, or a piece of it."""

    agent_id: str
    name: str
    step: str
    log_path: str
    content: str
    offset: int
    """Where the next read goes on."""
    restarted: bool = False
    """The offset lay beyond the end; this begins at the beginning."""
    has_more: bool = False
    """There is more than one reply holds: read on at `offset`."""


class Logs(Reply, frozen=True, tag=True):
    logs: tuple[AgentLog, ...]
    """Oldest agent first."""
    is_over: bool
    """Nothing more will be added."""


class AgentAttached(Reply, frozen=True, tag=True):
    agent_id: str
    name: str


class AgentsResumed(Reply, frozen=True, tag=True):
    resumed: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    """Id, reason."""


class ProjectSummary(View, frozen=True):
    name: str
    root: str
    active_jobs: int
    active_agents: int
    workers: int
    crons: int


class Projects(Reply, frozen=True, tag=True):
    projects: tuple[ProjectSummary, ...]


class TokenView(View, frozen=True):
    """A token of a person; what it is itself, nobody knows any more."""

    id: str
    name: str
    project: str
    """Empty: every one."""
    verbs: tuple[str, ...]
    status: str
    """active, expired or revoked."""
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int


class TokenCreated(Reply, frozen=True, tag=True):
    id: str
    name: str
    project: str
    verbs: tuple[str, ...]
    expires_at_ms: int
    token: str = ""
    """The secret itself."""

    def __repr__(self) -> str:
        return f"TokenCreated(id={self.id!r}, token=***)"


class Tokens(Reply, frozen=True, tag=True):
    tokens: tuple[TokenView, ...]


class TokenRevoked(Reply, frozen=True, tag=True):
    id: str


class JobStatusEntry(View, frozen=True):
    """A row of `oj status`."""

    id: str
    name: str
    kind: str
    step: str
    step_status: str
    elapsed_ms: int
    last_activity_ms: int
    waiting_reason: str
    escalate_source: str


class AgentStatusEntry(View, frozen=True):
    """A stand-alone agent in `oj status`."""

    id: str
    """Of the crew, which takes the place of a job."""
    name: str
    status: str
    elapsed_ms: int
    last_activity_ms: int


class ProjectStatus(View, frozen=True):
    project: str
    active_jobs: tuple[JobStatusEntry, ...]
    escalated_jobs: tuple[JobStatusEntry, ...]
    suspended_jobs: tuple[JobStatusEntry, ...]
    recent_failures: tuple[JobStatusEntry, ...]
    """Failed within the last 12 hours, newest first, at most 5: they keep a workspace and can be resumed."""
    agents: tuple[AgentStatusEntry, ...] = ()
    """Stand-alone agents at work; one that waits, is suspended or failed is in the sections above."""
    decisions_pending: int = 0


class Overview(Reply, frozen=True, tag=True):
    uptime_secs: int
    version: str
    projects: tuple[ProjectStatus, ...]
    warnings: tuple[str, ...] = ()


AnyReply = (
    Ok
    | Error
    | HelloReply
    | DaemonInfo
    | DaemonStopping
    | JobStarted
    | Jobs
    | WorkspaceView
    | JobDetail
    | Changes
    | Log
    | Story
    | JobsCancelled
    | JobsSuspended
    | JobResumed
    | JobsResumed
    | Pruned
    | Workspaces
    | WorkspacesDropped
    | Projects
    | Overview
    | DecisionView
    | Decisions
    | DecisionResolved
    | AgentView
    | Agents
    | AgentsResumed
    | AgentScreen
    | Logs
    | AgentAttached
    | TokenCreated
    | Tokens
    | TokenRevoked
)
