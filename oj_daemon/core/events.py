"""Every fact: what became true.

Rule: a fact is written once, in the record of its turn, and applied exactly once, live and on replay. It carries no time and
no cause: the record of its turn does. New fields have defaults, for ever; a fact is never removed, only no longer made.
"""

from __future__ import annotations

import msgspec

from oj_daemon.runbook.model import Container, Runbook
from oj_daemon.wire.names import (
    AgentId,
    DecisionId,
    DecisionSource,
    JobId,
    JobStatus,
    NotificationId,
    PromptKind,
    Severity,
    TokenId,
    Trigger,
    Verb,
    WorkspaceId,
    WorkspaceKind,
)


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


class Checkout(msgspec.Struct, frozen=True, omit_defaults=True):
    """The workspace of a job whose caller is on another machine, in place of the caller's folder or repository."""

    workspace_id: WorkspaceId
    kind: WorkspaceKind
    path: str
    url: str = ""
    """What is cloned."""
    start: str = ""
    """The caller's branch; empty when detached."""
    head: str = ""
    """The caller's commit."""
    folder: str = ""
    """Where in the repository the caller was."""
    runtime: str = ""
    """Which runtime makes it and runs the job in it; empty: the daemon's own machine."""
    note: str = ""
    """What the job's log says about it."""


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
    crew: bool = False
    """A stand-alone agent: `kind` names its definition, and its one step is the agent."""
    started_by: JobId = JobId("")
    """The job whose step or agent asked for it."""
    checkout: Checkout | None = None
    """Only of jobs whose caller is on another machine; `project_root` and `invoke_dir` are in it, then."""
    container: Container | None = None
    """What its project says about places; the runbook wins."""


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
    project: str = ""


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
    start: str = ""
    """Of a clone, of which `repo` is the URL: the branch that is checked out at first; empty: the caller had none."""
    head: str = ""
    """The caller's commit."""
    folder: str = ""
    """Where in the repository the caller was."""
    all_branches: bool = False
    """The clone needs more than that one branch."""
    runtime: str = ""
    """Which runtime makes it a place of its own, such as a pod; empty: a folder of the daemon's machine."""


class WorkspaceReady(Event, frozen=True, tag="workspace:ready"):
    """Steps can run in it."""

    workspace_id: WorkspaceId
    base: str = ""
    """Commit that the branch started from."""
    notes: tuple[str, ...] = ()
    """What is not as the caller may think, for the job's log."""
    route: dict[str, str] = {}
    """How the place is found again, for its runtime alone."""


class WorkspaceWaits(Event, frozen=True, tag="workspace:waits"):
    """Something has to happen before its place is ready, such as room on a node; an empty reason: nothing any more."""

    workspace_id: WorkspaceId
    reason: str


class WorkspaceMoved(Event, frozen=True, tag="workspace:moved"):
    """Its place is another one now: what was there before is gone, or has another address."""

    workspace_id: WorkspaceId
    route: dict[str, str]
    note: str = ""
    """What became of the old one; empty: only its address is new."""


class WorkspaceFailed(Event, frozen=True, tag="workspace:failed"):
    """It could not be made."""

    workspace_id: WorkspaceId
    reason: str


class WorkspaceDeleting(Event, frozen=True, tag="workspace:deleting"):
    """It is to be removed."""

    workspace_id: WorkspaceId
    force: bool = False
    """Whatever is in it."""


class WorkspaceDeleted(Event, frozen=True, tag="workspace:deleted"):
    """It is gone."""

    workspace_id: WorkspaceId
    job_id: JobId = JobId("")
    note: str = ""
    """What was kept and why, such as a branch with commits of its own."""


class WorkspaceKept(Event, frozen=True, tag="workspace:kept"):
    """It was not removed: it holds work that is nowhere else."""

    workspace_id: WorkspaceId
    reason: str


class WorkspaceDeleteFailed(Event, frozen=True, tag="workspace:delete_failed"):
    """It could not be removed; asked for again by drop, prune or the next start."""

    workspace_id: WorkspaceId
    reason: str


# Agents


class Choice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One option of a question or a decision."""

    label: str
    description: str = ""
    recommended: bool = False


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """One question of a dialog."""

    question: str
    header: str = ""
    multi_select: bool = False
    options: tuple[Choice, ...] = ()


class Prompt(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dialog that an agent shows."""

    kind: PromptKind
    seq: int
    """Number of this dialog within the sidecar's life: an answer names it, so that it cannot reach another one."""
    tool: str = ""
    input: str = ""
    """What the tool would get, or the plan, as JSON or text."""
    options: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()


class AgentCreated(Event, frozen=True, tag="agent:created"):
    """A run of an agent step needs a session."""

    agent_id: AgentId
    job_id: JobId
    run: int
    name: str
    """The definition."""
    session_id: str = ""
    """The conversation to go on with; empty for a new one."""
    message: str = ""
    """First input when a conversation goes on; the prompt when a new one begins with it."""
    attempts: dict[str, int] = {}
    """Trigger -> how often its action was taken, carried over from the session before."""


class AgentStarting(Event, frozen=True, tag="agent:starting"):
    """There is a slot for it: it is ordered."""

    agent_id: AgentId


class AgentSpawned(Event, frozen=True, tag="agent:spawned"):
    """Its sidecar is up; the route is what the next daemon needs to find it again."""

    agent_id: AgentId
    runtime: str
    route: dict[str, str]
    session_id: str = ""


class AgentSpawnFailed(Event, frozen=True, tag="agent:spawn_failed"):
    """It could not be started; nothing of it is left."""

    agent_id: AgentId
    reason: str


class AgentReported(Event, frozen=True, tag="agent:reported"):
    """Its sidecar says how it is."""

    agent_id: AgentId
    seq: int
    """The sidecar's number of this state; lower ones are old news."""
    state: str
    """starting, working, idle, prompt, error, unknown, stalled (silent or unknown for too long)."""
    prompt: Prompt | None = None
    error: str = ""
    """Category: unauthorized, out_of_credits, rate_limited, no_internet, server_error, other."""
    detail: str = ""
    last_message: str = ""
    session_id: str = ""


class AgentStopBlocked(Event, frozen=True, tag="agent:stop_blocked"):
    """It wanted to end its turn, and its sidecar told it to go on, with the text that a nudge would have brought."""

    agent_id: AgentId


class AgentExited(Event, frozen=True, tag="agent:exited"):
    """Its program has ended, or it and its sidecar have vanished."""

    agent_id: AgentId
    exit_code: int | None = None
    reason: str = ""


class AgentActed(Event, frozen=True, tag="agent:acted"):
    """The action for a trigger is taken; counts against its attempts."""

    agent_id: AgentId
    trigger: Trigger
    detail: str = ""
    """What happened: the error's category, the kind of prompt, the exit code."""


class AgentActionDue(Event, frozen=True, tag="agent:action_due"):
    """The action for a trigger waits for its cooldown."""

    agent_id: AgentId
    trigger: Trigger
    at: int
    detail: str = ""


class AgentNudging(Event, frozen=True, tag="agent:nudging"):
    """A message is to be typed into the session."""

    agent_id: AgentId
    nudge: int
    """Counts the messages to this agent; the sidecar types each number once."""
    message: str


class AgentNudged(Event, frozen=True, tag="agent:nudged"):
    """The message was typed, or could not be."""

    agent_id: AgentId
    nudge: int
    reason: str = ""
    """Why not; empty when it was delivered."""


class QuestionAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was chosen for one question."""

    options: tuple[int, ...] = ()
    """Numbers from 1."""
    text: str = ""
    """Free text, for Other."""


class AgentAnswering(Event, frozen=True, tag="agent:answering"):
    """A dialog is to be answered."""

    agent_id: AgentId
    prompt: int
    """Its number."""
    accept: bool | None = None
    option: int | None = None
    """Number, from 1, of the way in which an accepted plan goes on."""
    answers: tuple[QuestionAnswer, ...] = ()
    """One for each question."""
    text: str = ""
    """Feedback: why not, or what to change in a plan."""


class AgentAnswered(Event, frozen=True, tag="agent:answered"):
    """The answer arrived, or the dialog was gone."""

    agent_id: AgentId
    prompt: int
    reason: str = ""
    """Why not; empty when it arrived."""


class GateStarted(Event, frozen=True, tag="gate:started"):
    """The command of a gate runs."""

    agent_id: AgentId
    gate: int
    """Counts the gates of this agent."""
    trigger: Trigger


class GateFinished(Event, frozen=True, tag="gate:finished"):
    """The command of a gate has ended."""

    agent_id: AgentId
    gate: int
    exit_code: int | None
    output: str = ""
    """The end of what it printed: programs that test write to stdout what an agent has to know."""


class AgentKilled(Event, frozen=True, tag="agent:killed"):
    """Someone asked for its program to be killed; that it exits follows."""

    agent_id: AgentId


class AgentOverdue(Event, frozen=True, tag="agent:overdue"):
    """It was ordered long ago and has not shown a sign of life."""

    agent_id: AgentId


class AgentIgnored(Event, frozen=True, tag="agent:ignored"):
    """A message was typed long ago and the agent still is as idle as before."""

    agent_id: AgentId
    nudge: int


class AgentEscalated(Event, frozen=True, tag="agent:escalated"):
    """What it did needs a human."""

    agent_id: AgentId
    source: DecisionSource
    detail: str = ""


class AgentEnding(Event, frozen=True, tag="agent:ending"):
    """The session is to be ended, then it goes on as `why` says."""

    agent_id: AgentId
    why: str
    """done, fail, resume (another session follows), end (its step was ended from outside)."""
    error: str = ""
    message: str = ""
    """For resume: first input of the next session."""
    fresh: bool = False
    """For resume: the next session starts a new conversation."""


class AgentEnded(Event, frozen=True, tag="agent:ended"):
    """Nothing of the session is left."""

    agent_id: AgentId
    session_id: str = ""
    """Its conversation, where it can be gone on with."""


class AgentsForgotten(Event, frozen=True, tag="agents:forgotten"):
    """The records of an ended job's sessions are gone; the job stays."""

    job_id: JobId


# Decisions


class DecisionCreated(Event, frozen=True, tag="decision:created"):
    """Someone has to decide before the agent's step goes on."""

    decision_id: DecisionId
    agent_id: AgentId
    job_id: JobId
    run: int
    source: DecisionSource
    context: str
    options: tuple[Choice, ...]
    questions: tuple[Question, ...] = ()
    prompt: int = 0
    """Number of the dialog that the answer goes to; 0 for none."""
    deadline_at: int = 0
    default: str = ""
    """Label of the option that is chosen at the deadline; empty: it only says that nobody answered."""


class DecisionResolved(Event, frozen=True, tag="decision:resolved"):
    """It was decided."""

    decision_id: DecisionId
    choices: tuple[tuple[int, ...], ...] = ()
    """One for each question (one in all when it has none): numbers from 1; empty with a message alone."""
    message: str = ""
    by: str = ""
    """Who: user name, or `deadline`."""
    channel: str = ""
    """Through what: cli, run, tui, deadline."""


class DecisionClosed(Event, frozen=True, tag="decision:closed"):
    """It needs no answer any more, or was put aside."""

    decision_id: DecisionId
    why: str
    dismissed: bool = False
    """Put aside by someone: the owner still waits."""


class DecisionReopened(Event, frozen=True, tag="decision:reopened"):
    """It is open again."""

    decision_id: DecisionId


class DecisionExpired(Event, frozen=True, tag="decision:expired"):
    """Its deadline passed and nobody had answered."""

    decision_id: DecisionId


# Tokens


class TokenCreated(Event, frozen=True, tag="token:created"):
    """A token was made for a person or a program outside."""

    token_id: TokenId
    hash: str
    """SHA-256 of its secret part, which is written down nowhere."""
    name: str = ""
    project: str = ""
    verbs: tuple[Verb, ...] = ()
    expires_at: int = 0


class TokenRevoked(Event, frozen=True, tag="token:revoked"):
    """It opens nothing any more."""

    token_id: TokenId


class TokenForgotten(Event, frozen=True, tag="token:forgotten"):
    """It ended long ago, and its record is gone."""

    token_id: TokenId


# Notifications


class NotificationQueued(Event, frozen=True, tag="notification:queued"):
    """People are to be told, by each of the sinks."""

    notification_id: NotificationId
    """Also the key by which a receiver tells that it got something twice."""
    event: str
    """What it is about, such as job:failed or decision:idle."""
    severity: Severity
    title: str
    text: str
    sinks: tuple[str, ...]
    project: str = ""
    job_id: JobId = JobId("")
    job_name: str = ""
    decision_id: DecisionId = DecisionId("")
    options: tuple[Choice, ...] = ()
    """What can be answered, where it is about a decision."""
    questions: tuple[Question, ...] = ()


class NotificationDelivered(Event, frozen=True, tag="notification:delivered"):
    """The sink took it."""

    notification_id: NotificationId
    sink: str


class NotificationFailed(Event, frozen=True, tag="notification:failed"):
    """The sink did not take it this time."""

    notification_id: NotificationId
    sink: str
    reason: str
    wait_ms: int = 0
    """How long the sink wants to be left alone, at least."""


class NotificationRetryScheduled(Event, frozen=True, tag="notification:retry_scheduled"):
    """It will be tried again."""

    notification_id: NotificationId
    sink: str
    attempt: int
    """Number of the coming try."""
    at: int
    """Epoch milliseconds."""


class NotificationDue(Event, frozen=True, tag="notification:due"):
    """The time of the next try has come."""

    notification_id: NotificationId
    sink: str


class NotificationDropped(Event, frozen=True, tag="notification:dropped"):
    """The sink will never take it, or was tried for too long."""

    notification_id: NotificationId
    sink: str
    reason: str


class NotificationWithdrawn(Event, frozen=True, tag="notification:withdrawn"):
    """It waited for its turn or its next try, and is not delivered by this sink any more."""

    notification_id: NotificationId
    sink: str
    reason: str
    is_needless: bool = False
    """Nobody misses it: what it is about is settled."""


AgentEvent = (
    AgentCreated
    | AgentStarting
    | AgentSpawned
    | AgentSpawnFailed
    | AgentReported
    | AgentStopBlocked
    | AgentExited
    | AgentActed
    | AgentActionDue
    | AgentNudging
    | AgentNudged
    | AgentAnswering
    | AgentAnswered
    | AgentOverdue
    | AgentKilled
    | AgentIgnored
    | AgentEscalated
    | GateStarted
    | GateFinished
    | AgentEnding
    | AgentEnded
    | AgentsForgotten
)
DecisionEvent = (
    DecisionCreated | DecisionResolved | DecisionClosed | DecisionReopened | DecisionExpired
)
NotificationEvent = (
    NotificationQueued
    | NotificationDelivered
    | NotificationFailed
    | NotificationRetryScheduled
    | NotificationDue
    | NotificationDropped
    | NotificationWithdrawn
)
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
    | WorkspaceWaits
    | WorkspaceMoved
    | WorkspaceFailed
    | WorkspaceDeleting
    | WorkspaceDeleted
    | WorkspaceKept
    | WorkspaceDeleteFailed
)
CatalogEvent = RunbookLoaded | ProjectSeen
TokenEvent = TokenCreated | TokenRevoked | TokenForgotten
AnyEvent = (
    CatalogEvent
    | JobEvent
    | WorkspaceEvent
    | AgentEvent
    | DecisionEvent
    | NotificationEvent
    | TokenEvent
)


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn in the log."""

    at: int
    """Epoch milliseconds."""
    cause: str
    """The request (`JobCancel`), or `#seq` of the record whose order this answers, or `timer`."""
    facts: tuple[AnyEvent, ...]
