"""What is true now: dictionaries of frozen records.

Rule: only `apply` functions change it, record by record (records are frozen and replaced), so a shallow copy of the
dictionaries is a consistent picture. Indexes at the end of `State` are derived and never stored.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from oj_daemon.core.effects import AnyEffect, CreateWorkspace
from oj_daemon.core.events import AgentAnswering, AnyEvent, Checkout, Choice, Prompt, Question
from oj_daemon.errors import Rejected
from oj_daemon.runbook.model import (
    AgentDef,
    CommandDef,
    Container,
    JobDef,
    RunAgent,
    Runbook,
    StepDef,
)
from oj_daemon.wire.names import (
    ENDED_AGENTS,
    PREFIXES,
    AgentId,
    AgentStatus,
    DecisionId,
    DecisionSource,
    DecisionStatus,
    JobId,
    JobStatus,
    NotificationId,
    Severity,
    StepStatus,
    TokenId,
    Trigger,
    Verb,
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
    is_swept: bool = False
    """It exited while its job was ending: what follows is the ending's business."""


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
    crew: bool = False
    started_by: JobId = JobId("")
    """The job whose step or agent asked for it."""
    container: Container | None = None
    """What its project says about places; the runbook wins."""
    checkout: Checkout | None = None
    """Only where the caller is on another machine."""
    message: str = ""
    """What the last resume said; for the agent step that goes on."""

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
    start: str = ""
    head: str = ""
    folder: str = ""
    all_branches: bool = False
    runtime: str = ""
    """Which runtime made it a place of its own; empty: it is a folder of the daemon's machine."""
    route: dict[str, str] = {}
    waits_for: str = ""
    """What its place waits for, in words."""
    force: bool = False
    """It is being removed with whatever is in it."""
    created_at: int = 0


class Agent(Data, frozen=True):
    """One session of an agent program, for one run of an agent step."""

    id: AgentId
    job_id: JobId
    run: int
    name: str
    status: AgentStatus = AgentStatus.QUEUED
    is_ordered: bool = False
    session_id: str = ""
    message: str = ""
    attempts: dict[str, int] = {}
    runtime: str = ""
    route: dict[str, str] = {}
    seq: int = 0
    state: str = ""
    """As last reported."""
    prompt: Prompt | None = None
    error: str = ""
    detail: str = ""
    last_message: str = ""
    has_exited: bool = False
    exit_code: int | None = None
    exit_reason: str = ""
    pending: Trigger | None = None
    """The trigger whose action waits for its cooldown until `pending_at`."""
    pending_at: int = 0
    pending_detail: str = ""
    nudges: int = 0
    nudged: int = 0
    """The last message of which it is known what became of it."""
    nudge: str = ""
    """The last message."""
    answering: AgentAnswering | None = None
    """An answer of which it is not known yet what became of it."""
    gates: int = 0
    gate: Trigger | None = None
    """What the gate that runs now is about."""
    ending: str = ""
    """Why it is being ended; see AgentEnding."""
    ending_error: str = ""
    ending_message: str = ""
    is_fresh: bool = False
    """The session that follows starts a new conversation."""
    created_at: int = 0
    updated_at: int = 0
    ended_at: int = 0

    @property
    def is_alive(self) -> bool:
        """Whether messages can reach it."""
        return self.status in (AgentStatus.RUNNING, AgentStatus.WAITING) and not self.has_exited


class Decision(Data, frozen=True):
    """A question to a human."""

    id: DecisionId
    agent_id: AgentId
    job_id: JobId
    run: int
    source: DecisionSource
    context: str
    options: tuple[Choice, ...]
    questions: tuple[Question, ...] = ()
    prompt: int = 0
    status: DecisionStatus = DecisionStatus.OPEN
    note: str = ""
    """Why it was closed, or what became of the answer."""
    deadline_at: int = 0
    default: str = ""
    choices: tuple[tuple[int, ...], ...] = ()
    message: str = ""
    by: str = ""
    channel: str = ""
    created_at: int = 0
    resolved_at: int = 0


class Delivery(Data, frozen=True):
    """How far a notification is with one sink that has not taken it yet."""

    attempts: int = 0
    """Tries that failed."""
    reason: str = ""
    """Why the last one did."""
    retry_at: int = 0
    """When the next one is due; 0: it is in the sink's queue."""


class Notification(Data, frozen=True):
    """Something that people are told; gone when no sink is left that has not taken it."""

    id: NotificationId
    event: str
    severity: Severity
    title: str
    text: str
    at: int
    deliveries: dict[str, Delivery]
    """By sink."""
    project: str = ""
    job_id: JobId = JobId("")
    job_name: str = ""
    decision_id: DecisionId = DecisionId("")
    options: tuple[Choice, ...] = ()
    questions: tuple[Question, ...] = ()


class Project(Data, frozen=True):
    """A project that was used."""

    name: str
    root: str
    seen_at: int = 0


class Token(Data, frozen=True):
    """A token of a person or a program outside; only the hash of its secret is known."""

    id: TokenId
    hash: str
    name: str = ""
    project: str = ""
    """The only one that it reaches; empty: every one."""
    verbs: tuple[Verb, ...] = ()
    created_at: int = 0
    expires_at: int = 0
    revoked_at: int = 0

    def ended_at(self, now: int) -> int:
        """When it ceased to open anything; 0 while it does."""
        ends = self.revoked_at or self.expires_at
        return ends if ends <= now else 0


class StateData(msgspec.Struct, omit_defaults=True):
    """What a snapshot holds."""

    jobs: list[Job] = []
    """Oldest change first."""
    workspaces: list[Workspace] = []
    projects: list[Project] = []
    agents: list[Agent] = []
    decisions: list[Decision] = []
    notifications: list[Notification] = []
    outbox: dict[str, list[NotificationId]] = {}
    runbooks: dict[str, Runbook] = {}
    tokens: list[Token] = []


class State:
    """All records, by id."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        """Oldest change first: a record that changes moves to the end."""
        self.workspaces: dict[WorkspaceId, Workspace] = {}
        self.projects: dict[str, Project] = {}
        self.agents: dict[AgentId, Agent] = {}
        """Oldest first."""
        self.decisions: dict[DecisionId, Decision] = {}
        """Oldest first."""
        self.notifications: dict[NotificationId, Notification] = {}
        """Those that some sink has not taken yet, oldest first."""
        self.outbox: dict[str, dict[NotificationId, None]] = {}
        """Sink -> what it is to be handed now, in this order; the first is on its way to it."""
        self.runbooks: dict[str, Runbook] = {}
        self.tokens: dict[TokenId, Token] = {}
        """Oldest first."""
        # Derived.
        self.live: dict[JobId, None] = {}
        """Jobs that have not ended; suspended ones count as live."""
        self.failed: dict[JobId, None] = {}
        """Failed jobs, oldest first."""
        self.live_agents: dict[AgentId, None] = {}
        """Sessions that have not ended."""
        self.job_agents: dict[JobId, list[AgentId]] = {}
        """The sessions of each job that had any, oldest first."""
        self.open_decisions: dict[DecisionId, None] = {}
        self.undecided: dict[DecisionId, None] = {}
        """Decisions that are open or were put aside."""
        self.undelivered: dict[str, dict[NotificationId, None]] = {}
        """Sink -> all that it has not taken yet, oldest first."""
        self.crews: dict[JobId, None] = {}
        """Stand-alone agents."""
        self.keys: dict[str, JobId] = {}
        """Idempotency key -> job."""
        self.runbook_uses: dict[str, int] = {}
        self.project_jobs: dict[str, dict[JobId, None]] = {}
        """The jobs of each project, oldest change first."""
        self._sorted_ids: list[JobId] = []
        """Ids of jobs in the order of the alphabet, but those in `_new_ids`; some may be gone."""
        self._new_ids: list[JobId] = []

    # Changing: for `apply` only.

    def put_job(self, job: Job) -> None:
        """Store a new or changed job and move it to the end."""
        old = self.jobs.pop(job.id, None)
        self.jobs[job.id] = job
        ids = self.project_jobs.setdefault(job.project, {})
        ids.pop(job.id, None)
        ids[job.id] = None
        if old is None:
            self._new_ids.append(job.id)
            self.runbook_uses[job.runbook] = self.runbook_uses.get(job.runbook, 0) + 1
            if job.key:
                self.keys[job.key] = job.id
            if job.crew:
                self.crews[job.id] = None
        if old is None or old.status is not job.status:
            self._index(job)

    def drop_job(self, job_id: JobId) -> None:
        """Forget a job, and its runbook when nothing else uses it."""
        job = self.jobs.pop(job_id)
        self.live.pop(job_id, None)
        self.failed.pop(job_id, None)
        self.keys.pop(job.key, None)
        self.crews.pop(job_id, None)
        del self.project_jobs[job.project][job_id]
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

    def put_agent(self, agent: Agent) -> None:
        """Store a new or changed session."""
        if agent.id not in self.agents:
            self.job_agents.setdefault(agent.job_id, []).append(agent.id)
        self.agents[agent.id] = agent
        if agent.status in ENDED_AGENTS:
            self.live_agents.pop(agent.id, None)
        else:
            self.live_agents[agent.id] = None

    def drop_agents(self, job_id: JobId) -> None:
        """Forget the sessions of a job."""
        for agent_id in self.job_agents.pop(job_id, ()):
            del self.agents[agent_id]
            self.live_agents.pop(agent_id, None)

    def put_decision(self, decision: Decision) -> None:
        """Store a new or changed decision."""
        self.decisions[decision.id] = decision
        if decision.status is DecisionStatus.OPEN:
            self.open_decisions[decision.id] = None
        else:
            self.open_decisions.pop(decision.id, None)
        if decision.status in (DecisionStatus.OPEN, DecisionStatus.DISMISSED):
            self.undecided[decision.id] = None
        else:
            self.undecided.pop(decision.id, None)

    def put_notification(self, notification: Notification) -> None:
        """Store a new or changed notification; one that every sink has taken is forgotten."""
        old = self.notifications.get(notification.id)
        for sink in old.deliveries if old is not None else ():
            if sink not in notification.deliveries:
                del self.undelivered[sink][notification.id]
        for sink in notification.deliveries:
            self.undelivered.setdefault(sink, {})[notification.id] = None
        if notification.deliveries:
            self.notifications[notification.id] = notification
        else:
            self.notifications.pop(notification.id, None)

    def undecided_of(self, job_id: JobId) -> list[Decision]:
        """The decisions that a job waits for, open or put aside, oldest first."""
        found = (self.decisions[decision_id] for decision_id in self.undecided)
        return [decision for decision in found if decision.job_id == job_id]

    # Reading.

    def definition(self, job: Job) -> JobDef:
        """The job's definition, as it was when the job was made; that of a stand-alone agent is made of the agent's."""
        if job.crew:
            return JobDef(
                name=job.kind,
                steps=(StepDef(name=job.kind, run=RunAgent(agent=job.kind)),),
                container=self.runbooks[job.runbook].agents[job.kind].container,
            )
        return self.runbooks[job.runbook].jobs[job.kind]

    def agent_definition(self, agent: Agent) -> AgentDef:
        """The session's definition, as it was when its job was made."""
        return self.runbooks[self.jobs[agent.job_id].runbook].agents[agent.name]

    def agent_of(self, job_id: JobId, run: int) -> Agent | None:
        """The session that works, or waits to work, on a run."""
        for agent_id in self.live_agents:
            agent = self.agents[agent_id]
            if agent.job_id == job_id and agent.run == run:
                return agent
        return None

    def decision_of(self, job_id: JobId, run: int) -> Decision | None:
        """The open decision about a run."""
        for decision_id in self.open_decisions:
            decision = self.decisions[decision_id]
            if decision.job_id == job_id and decision.run == run:
                return decision
        return None

    # With a project only what belongs to it is found, and nothing is said about the rest.

    def find_decision(self, ref: str, *, project: str | None = None) -> Decision:
        """By id or unique prefix."""
        exact = self.decisions.get(DecisionId(ref))
        if exact is not None and self._is_of(exact.job_id, project):
            return exact
        like = [
            id_
            for id_ in _like(ref, self.decisions)
            if self._is_of(self.decisions[DecisionId(id_)].job_id, project)
        ]
        return self.decisions[DecisionId(_only(ref, "Decision", like))]

    def find_agent(self, ref: str, *, project: str | None = None) -> Agent:
        """By id or unique prefix of it, or by its job: the newest session of that."""
        exact = self.agents.get(AgentId(ref))
        if exact is not None and self._is_of(exact.job_id, project):
            return exact
        like = [
            id_
            for id_ in _like(ref, self.agents)
            if self._is_of(self.agents[AgentId(id_)].job_id, project)
        ]
        try:
            return self.agents[AgentId(_only(ref, "Agent", like))]
        except Rejected as unknown:
            if unknown.code != "not_found":
                raise
            try:
                job = self.find_job(ref, project=project)
            except Rejected:
                raise unknown from None
            found = [agent for agent in self.agents.values() if agent.job_id == job.id]
            if not found:
                raise Rejected(
                    f"job {short_id(job.id)} has had no agent",
                    code="not_found",
                    hint=f"oj job show {short_id(job.id)}",
                ) from None
            return found[-1]

    def find_job(self, ref: str, *, project: str | None = None) -> Job:
        """By id, unique prefix of the id or of its part after the prefix, or name of one job that has not ended."""
        exact = self.jobs.get(JobId(ref))
        if exact is not None and self._is_of(exact.id, project):
            return exact
        like = [id_ for id_ in self.jobs_like(ref) if self._is_of(id_, project)]
        if not like:
            like = [id_ for id_ in self._named(ref) if self._is_of(id_, project)]
        return self.jobs[JobId(_only(ref, "Job", like))]

    def _is_of(self, job_id: JobId, project: str | None) -> bool:
        if project is None:
            return True
        job = self.jobs.get(job_id)
        return job is not None and job.project == project

    def jobs_like(self, ref: str) -> list[JobId]:
        """Ids that begin with `ref`, or have it right after their prefix."""
        ids = self._ids()
        found: list[JobId] = []
        for start in dict.fromkeys((ref, f"{PREFIXES['job']}{ref}", f"{PREFIXES['crew']}{ref}")):
            at = bisect_left(ids, start) if ref else len(ids)
            while at < len(ids) and ids[at].startswith(start):
                if ids[at] in self.jobs:
                    found.append(ids[at])
                at += 1
        return found

    def _ids(self) -> list[JobId]:
        """Ids in the order of the alphabet: put into it when somebody asks, because a replay has no use for that."""
        if len(self._sorted_ids) > 2 * len(self.jobs):
            self._sorted_ids, self._new_ids = [], list(self.jobs)
        if self._new_ids:
            self._sorted_ids += self._new_ids
            self._sorted_ids.sort()  # two pieces of which one is in order: much less than a sort
            self._new_ids = []
        return self._sorted_ids

    def _named(self, name: str) -> list[JobId]:
        return [id_ for id_ in self.live if self.jobs[id_].name == name]

    def find_workspace(self, ref: str, *, project: str | None = None) -> Workspace:
        """By id or unique prefix."""
        like = [ref] if ref in self.workspaces else _like(ref, self.workspaces)
        found = [self.workspaces[WorkspaceId(id_)] for id_ in like]
        mine = [one.id for one in found if project is None or one.project == project]
        return self.workspaces[WorkspaceId(_only(ref, "Workspace", mine))]

    def find_token(self, ref: str) -> Token:
        """By id or unique prefix."""
        like = [ref] if ref in self.tokens else _like(ref, self.tokens)
        return self.tokens[TokenId(_only(ref, "Token", like))]

    # Snapshots.

    def dump(self) -> StateData:
        """The stored part; shares the frozen records."""
        return StateData(
            jobs=list(self.jobs.values()),
            workspaces=list(self.workspaces.values()),
            projects=list(self.projects.values()),
            agents=list(self.agents.values()),
            decisions=list(self.decisions.values()),
            notifications=list(self.notifications.values()),
            outbox={sink: list(ids) for sink, ids in self.outbox.items() if ids},
            runbooks=dict(self.runbooks),
            tokens=list(self.tokens.values()),
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
        state.tokens = {token.id: token for token in data.tokens}
        for agent in data.agents:
            state.put_agent(agent)
        for decision in data.decisions:
            state.put_decision(decision)
        for notification in data.notifications:
            state.put_notification(notification)
        state.outbox = {sink: dict.fromkeys(ids) for sink, ids in data.outbox.items()}
        return state


def _like(ref: str, ids: Iterable[str]) -> list[str]:
    """Ids that begin with `ref`, or have it right after their prefix."""
    return [id_ for id_ in ids if ref and (id_.startswith(ref) or id_.startswith(ref, 4))]


def _only(ref: str, noun: str, found: Sequence[str]) -> str:
    """The one that was found; raises Rejected when there are none or several."""
    if len(found) == 1:
        return found[0]
    listing = noun.lower()
    if not found:
        every = "" if noun in ("Decision", "Token") else " --no-limit"
        raise Rejected(
            f"{noun} not found: {ref}", code="not_found", hint=f"oj {listing} list{every}"
        )
    shown = ", ".join(short_id(id_) for id_ in found[:8]) + (", ..." if len(found) > 8 else "")
    raise Rejected(
        f"{ref!r} could be any of {len(found)} {listing}s: {shown}",
        code="ambiguous",
        hint="type more characters of the id",
    )


class Policy(msgspec.Struct, frozen=True):
    """What the profile and the settings decide for the core."""

    workspaces_dir: str = "/workspaces"
    runtime: str = ""
    """Where new jobs run: empty for the daemon's machine, else the runtime that makes a place for each."""
    state_dir: str = "/state"
    sinks: tuple[str, ...] = ()
    """What notifications are delivered by; empty: they are only noted in the logs."""
    least_severity: Severity = Severity.INFO
    """Of what is delivered."""
    outbox_limit: int = 1000
    """How many notifications may wait for one sink."""


class Resolved(msgspec.Struct, frozen=True):
    """What the caller's runbook texts say about the command that is to run."""

    runbook: Runbook
    hash: str
    command: CommandDef
    warnings: tuple[str, ...] = ()


class Turn:
    """Everything a decision may know besides the state."""

    def __init__(  # noqa: PLR0913 - each comes from somewhere else
        self,
        *,
        now: int,
        fresh: Callable[[str], str],
        policy: Policy | None = None,
        resolved: Resolved | None = None,
        started_by: str = "",
        secret_hash: str = "",
    ) -> None:
        self.now = now
        """Epoch milliseconds."""
        self.fresh = fresh
        """Prefix -> a new id."""
        self.policy = policy or Policy()
        self.resolved = resolved
        """For RunCommand."""
        self.started_by = JobId(started_by)
        """For RunCommand: the job on whose behalf it is asked for."""
        self.secret_hash = secret_hash
        """For TokenCreate: the secret itself is none of our business."""


class Answer:
    """What a request gets: a reply, and the facts that make it true."""

    def __init__(self, reply: AnyReply, facts: list[AnyEvent] | None = None) -> None:
        self.reply = reply
        self.facts = facts or []


Changes = dict[type, Callable[..., None]]
"""Fact -> the function that makes it true, called with the state, the fact and its time."""
Reactions = dict[type, Callable[..., Iterator[AnyEvent | AnyEffect]]]
"""Fact -> the function that tells what follows from it, called with the state, the fact and the turn."""


def creation(state: State, workspace: Workspace) -> CreateWorkspace:
    """All that it takes to make a workspace, or to find it where it is."""
    job = state.jobs.get(workspace.job_id)
    return CreateWorkspace(
        workspace_id=workspace.id,
        job_id=workspace.job_id,
        kind=workspace.kind,
        path=workspace.path,
        project=workspace.project,
        repo=workspace.repo,
        branch=workspace.branch,
        ref=workspace.ref,
        start=workspace.start,
        head=workspace.head,
        folder=workspace.folder,
        all_branches=workspace.all_branches,
        runtime=workspace.runtime,
        route=workspace.route,
        container=(state.definition(job).container or job.container) if job is not None else None,
    )


def place_of(state: State, job: Job) -> CreateWorkspace | None:
    """Where a job is carried out; None: on the daemon's machine."""
    workspace = state.workspaces.get(job.workspace) if job.workspace is not None else None
    if workspace is None or not workspace.runtime:
        return None
    return creation(state, workspace)


def check_place(state: State, job: Job) -> None:
    """Raise Rejected when the place that a job has to run in was removed: nothing of it begins on the daemon's machine."""
    if job.checkout is not None and job.checkout.runtime and place_of(state, job) is None:
        raise Rejected("its place was removed; oj resume makes it again", code="conflict")


def values_of(job: Job) -> dict[str, str]:
    """What templates of a job, its `args.` included, may refer to."""
    arguments = {
        f"args.{name[4:]}": value for name, value in job.vars.items() if name.startswith("var.")
    }
    root = job.vars.get("source.root", job.cwd)
    owner = "crew_id" if job.crew else "job_id"
    return {**arguments, **job.vars, owner: job.id, "name": job.name, "workspace": root}


def step_of(definition: JobDef, name: str) -> StepDef:
    """The step of that name; there is one, the runbook was validated."""
    return next(step for step in definition.steps if step.name == name)


def check(state: State) -> Iterator[str]:
    """Invariants that hold between turns; yields what is broken (for tests and the chaos script)."""
    yield from _check_agents(state)
    yield from _check_notifications(state)
    by_project: dict[str, list[JobId]] = {name: [] for name in state.project_jobs}
    for job in state.jobs.values():
        by_project.setdefault(job.project, []).append(job.id)
    if by_project != {name: list(ids) for name, ids in state.project_jobs.items()}:
        yield "the jobs of each project are not those of the state in the order of their changes"
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
        if workspace.job_id not in state.jobs and workspace.status not in (
            WorkspaceStatus.DELETING,
            WorkspaceStatus.KEPT,
        ):
            yield f"{workspace.id}: owner {workspace.job_id} is gone"


def _check_notifications(state: State) -> Iterator[str]:
    left: dict[str, list[NotificationId]] = {}
    now: dict[str, set[NotificationId]] = {}
    for notification in state.notifications.values():
        if not notification.deliveries:
            yield f"{notification.id}: kept, though every sink has taken it"
        for sink, delivery in notification.deliveries.items():
            left.setdefault(sink, []).append(notification.id)
            if not delivery.retry_at:
                now.setdefault(sink, set()).add(notification.id)
    if left != {sink: list(ids) for sink, ids in state.undelivered.items() if ids}:
        yield "the undelivered of each sink are not those of the state in the order of their age"
    if now != {sink: set(ids) for sink, ids in state.outbox.items() if ids}:
        yield "the outbox of each sink does not hold what waits for no retry"


def _check_agents(state: State) -> Iterator[str]:
    for agent_id in state.live_agents:
        agent = state.agents[agent_id]
        job = state.jobs.get(agent.job_id)
        run = job.run_of(agent.run) if job is not None else None
        if run is None or run.status not in ACTIVE:
            yield f"{agent_id}: lives, but its run {agent.run} of {agent.job_id} is over"
    for job_id in state.live:
        job = state.jobs[job_id]
        for run in job.active:
            if run.status is StepStatus.PENDING or not isinstance(
                step_of(state.definition(job), run.step).run, RunAgent
            ):
                continue
            count = sum(
                1
                for id_ in state.live_agents
                if (state.agents[id_].job_id, state.agents[id_].run) == (job_id, run.run)
            )
            if count != 1:
                yield f"{job_id}: run {run.run} has {count} sessions"
            waits = run.status is StepStatus.WAITING
            if waits and job.ending is None and job.status is not JobStatus.WAITING:
                yield f"{job_id}: step {run.step} waits, the job is {job.status}"
    for decision_id in state.open_decisions:
        decision = state.decisions[decision_id]
        if decision.agent_id not in state.live_agents:
            yield f"{decision_id}: open, but its agent has ended"
    asked = [
        (state.decisions[id_].job_id, state.decisions[id_].run) for id_ in state.open_decisions
    ]
    if len(asked) != len(set(asked)):
        yield f"two decisions are open about one run: {asked}"
