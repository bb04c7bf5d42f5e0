"""Every order: what the world shall do.

Rule: orders leave only after the record of their turn is durable, and may leave twice (a crash between deed and answer), so
each names what it acts on by an id that the deed can recognise. The docstring names the facts that answer it.
"""

from __future__ import annotations

import msgspec

from oj_daemon.core.events import AgentAnswering, AnyEvent, Choice, Question
from oj_daemon.runbook.model import Container, Text
from oj_daemon.wire.names import (
    AgentId,
    DecisionId,
    JobId,
    NotificationId,
    Severity,
    WorkspaceId,
    WorkspaceKind,
)


class Effect(msgspec.Struct, frozen=True):
    """Base of all orders."""


class CreateWorkspace(Effect, frozen=True):
    """Make it, or find what of it is there. Answers: WorkspaceReady, WorkspaceFailed.

    Other orders carry it as their `place`: where they are carried out, and all that it takes to make that again should it be
    gone. Then WorkspaceMoved comes.
    """

    workspace_id: WorkspaceId
    job_id: JobId
    kind: WorkspaceKind
    path: str
    project: str = ""
    repo: str = ""
    branch: str = ""
    ref: str = ""
    start: str = ""
    head: str = ""
    folder: str = ""
    all_branches: bool = False
    runtime: str = ""
    route: dict[str, str] = {}
    """Where it was, when it is looked for again."""
    container: Container | None = None
    agent_id: AgentId = AgentId("")
    """It is the agent's alone."""


class EvaluateJob(Effect, frozen=True):
    """Evaluate locals (in order) and ref. Answers: JobEvaluated, JobEvaluateFailed."""

    job_id: JobId
    locals: tuple[tuple[str, Text], ...]
    ref: Text | None
    values: dict[str, str]
    env: dict[str, str]
    cwd: str
    place: CreateWorkspace | None = None
    """None: the daemon's machine."""


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
    place: CreateWorkspace | None = None
    """None: the daemon's machine."""


class EndStep(Effect, frozen=True):
    """End everything the run started; a run that never began never will. Answers: StepExited."""

    job_id: JobId
    run: int
    label: str
    place: CreateWorkspace | None = None
    """None: the daemon's machine."""


class ForgetRun(Effect, frozen=True):
    """Remove the run's folder."""

    job_id: JobId
    run: int
    place: CreateWorkspace | None = None
    """None: the daemon's machine."""


class CloseLog(Effect, frozen=True):
    """Let go of the job's log: the job has ended, and there may be tens of thousands like it."""

    job_id: JobId


class ForgetJob(Effect, frozen=True):
    """Remove the job's log, run folders and the files of its agents."""

    job_id: JobId


class ForgetAgents(Effect, frozen=True):
    """Remove the files of a job's agents."""

    job_id: JobId


class DeleteWorkspace(Effect, frozen=True):
    """Answers: WorkspaceDeleted, WorkspaceKept, WorkspaceDeleteFailed."""

    workspace_id: WorkspaceId
    job_id: JobId
    kind: WorkspaceKind
    path: str
    repo: str = ""
    branch: str = ""
    base: str = ""
    own_branch: bool = False
    force: bool = False
    runtime: str = ""
    route: dict[str, str] = {}
    agent_id: AgentId = AgentId("")
    """It is the agent's alone."""


class SpawnAgent(Effect, frozen=True):
    """Start the session, or find it again where it is. Answers: AgentSpawned, AgentSpawnFailed.

    From then on its AgentReported and AgentExited come.
    """

    agent_id: AgentId
    job_id: JobId
    label: str
    driver: str
    script: str
    """What bash runs as the agent's command; the driver adds its own arguments behind it."""
    env: dict[str, str]
    cwd: str
    prompt: str
    prompt_file: str = ""
    """Absolute path of a template that is read instead of `prompt`."""
    values: dict[str, str] = {}
    """What that template may refer to."""
    session_id: str = ""
    message: str = ""
    stop: str = "allow"
    """What happens when the agent wants to end its turn: allow, gate or auto."""
    stop_prompt: str = ""
    prime: dict[str, str] = {}
    """Session source ("" for every one) -> script whose output becomes context."""
    prime_env: dict[str, str] = {}
    extra: dict[str, object] = {}
    """More of the sidecar's configuration, such as the patterns of a generic program."""
    runtime: str = ""
    route: dict[str, str] = {}
    """Where it was, when it is looked for again."""
    seq: int = 0
    """The last report that is known."""
    place: CreateWorkspace | None = None
    """None: the daemon's machine."""


class NudgeAgent(Effect, frozen=True):
    """Type a message, once for each number. Answers: AgentNudged."""

    agent_id: AgentId
    job_id: JobId
    runtime: str
    route: dict[str, str]
    nudge: int
    message: str


class AnswerAgent(Effect, frozen=True):
    """Answer a dialog, if it still stands. Answers: AgentAnswered."""

    agent_id: AgentId
    job_id: JobId
    runtime: str
    route: dict[str, str]
    answer: AgentAnswering


class KillAgent(Effect, frozen=True):
    """Kill the program, and let its sidecar say so. Answers: AgentExited."""

    agent_id: AgentId
    job_id: JobId
    runtime: str
    route: dict[str, str]


class EndAgent(Effect, frozen=True):
    """End the session and everything it started. Answers: AgentEnded."""

    agent_id: AgentId
    job_id: JobId
    runtime: str
    route: dict[str, str]
    session_id: str = ""
    place: CreateWorkspace | None = None
    """None: the daemon's machine."""


class RunGate(Effect, frozen=True):
    """Run the command of a gate, once for each number. Answers: GateFinished."""

    agent_id: AgentId
    job_id: JobId
    gate: int
    script: str
    env: dict[str, str]
    cwd: str
    place: CreateWorkspace | None = None
    """None: the daemon's machine."""


class Notify(Effect, frozen=True):
    """Note in the logs what people are told."""

    title: str
    text: str
    job_id: JobId


class DeliverNotification(Effect, frozen=True):
    """Hand it to one sink. Answers: NotificationDelivered, NotificationFailed, NotificationDropped."""

    notification_id: NotificationId
    """The same at every try: receivers know by it what they already got."""
    sink: str
    event: str
    severity: Severity
    title: str
    text: str
    at: int
    """When it happened, epoch milliseconds."""
    project: str = ""
    job_id: JobId = JobId("")
    job_name: str = ""
    decision_id: DecisionId = DecisionId("")
    options: tuple[Choice, ...] = ()
    questions: tuple[Question, ...] = ()
    """Only where there are several: the options of a single question are among `options`."""
    answer: str = ""
    """The command that answers the decision."""


class ReportDrop(Effect, frozen=True):
    """Say that nobody was told by this sink."""

    notification_id: NotificationId
    sink: str
    reason: str


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
    | ForgetAgents
    | CreateWorkspace
    | DeleteWorkspace
    | SpawnAgent
    | NudgeAgent
    | AnswerAgent
    | EndAgent
    | KillAgent
    | RunGate
    | Notify
    | DeliverNotification
    | ReportDrop
    | SetTimer
    | CancelTimer
)
