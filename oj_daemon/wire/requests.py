"""Every request that a front end may send, grouped by noun.

Rule: a request is one JSON object whose `type` is the class name; unknown fields are refused, so an old daemon says what it
cannot do. Front ends send plain dictionaries of this shape (importing msgspec would cost each call of `oj` 25 ms); the
daemon decodes them into these classes. Ids may be full ids, unique prefixes of the id or of its part after the prefix, or the
name of a job of which exactly one is not finished.
"""

from __future__ import annotations

from typing import Final, TypeGuard, get_args

import msgspec

from oj_daemon.wire.names import Noun, Verb


class Request(
    msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True
):
    """Base of all requests."""


# Connection


class Hello(Request, frozen=True, tag=True):
    """First frame of a connection; may be sent together with the request after it. Reply: HelloReply."""

    protocol: int
    version: str
    token: str = ""


class Ping(Request, frozen=True, tag=True):
    """Reply: Ok."""


# Daemon


class DaemonStatus(Request, frozen=True, tag=True):
    """Reply: DaemonInfo."""


class DaemonStop(Request, frozen=True, tag=True):
    """Drain and end the daemon. Reply: DaemonStopping, sent before the drain begins."""

    kill: bool = False
    """End what runs (shell steps, agents) as well; else it goes on and is picked up by the next daemon."""


class StatusOverview(Request, frozen=True, tag=True):
    """Reply: Overview."""

    project: str | None = None


# Watching


class Watch(Request, frozen=True, tag=True):
    """Wait for news, at most `wait_ms`. Reply: Changes, as soon as there are any.

    Asked again and again with the `seq` and `epoch` of the last answer this is a subscription. The daemon keeps nothing for
    whoever watches: one that is slow is told the newest state of what changed meanwhile, once, or all anew.
    """

    nouns: tuple[Noun, ...] = ()
    """What to be told of; besides that only of `ids` and `logs`."""
    project: str | None = None
    ids: tuple[str, ...] = ()
    """Jobs to be told of in full."""
    since: int = 0
    """`seq` of the last answer; 0 without an epoch answers at once, with a snapshot."""
    epoch: int = 0
    """`epoch` of the last answer, because each daemon counts for itself: another one answers with a snapshot."""
    wait_ms: int = 20_000
    limit: int = 1_000
    """How many jobs that have ended a snapshot holds, the newest first; the same for facts, the newest last."""
    logs: dict[str, int] = {}
    """Full id of a job or an agent -> byte offset in its log from which new text is wanted (-1: from the end)."""


class DaemonLogs(Request, frozen=True, tag=True):
    """What the daemon wrote into its log last, kept in its memory wherever that log goes. Reply: Log."""

    lines: int | None = 200
    """From the end; None: all that is kept. Ignored when `offset` is given."""
    offset: int | None = None
    """`offset` of the last answer: only what came after it."""


# Runbook commands


class Repo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What only the caller's machine knows about the repository around `invoke_dir`."""

    root: str
    """Top folder of the work tree that `invoke_dir` is in."""
    url: str = ""
    """URL of remote `origin`, without credentials."""
    branch: str = ""
    """Current branch; empty when detached."""
    head: str = ""
    """Commit id."""


class SourceText(msgspec.Struct, frozen=True, omit_defaults=True):
    """One runbook or library file."""

    path: str
    """Relative: `.oj/runbooks/x.hcl`, `.oj/libraries/lib/x.hcl`; user libraries as `~/libraries/lib/x.hcl`."""
    text: str


class Sources(msgspec.Struct, frozen=True, omit_defaults=True):
    """The text of everything that defines a project's runbooks, as read by the caller (system.md D1)."""

    files: tuple[SourceText, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    """Files that could not be read: path, reason."""


class RunCommand(Request, frozen=True, tag=True):
    """`oj run COMMAND ARGS...` for a command that runs a job. Reply: JobStarted."""

    project: str
    project_root: str
    invoke_dir: str
    command: str
    args: tuple[str, ...] = ()
    runbook: str | None = None
    """Path of the one file to take the command from (`--runbook`)."""
    sources: Sources = Sources()
    env: dict[str, str] = {}
    """The caller's values of names that the texts mention as `${NAME:-default}` (system.md D2)."""
    repo: Repo | None = None
    is_remote: bool = False
    """The caller is on another machine: its folders are not the daemon's, so the job works in a clone of `repo.url`."""
    container: dict[str, object] = {}
    """`[container]` of the project's `.oj/config.toml`: of jobs whose runbook names none."""
    key: str = ""
    """Made up by the client; the same key again returns the same job, so a retry after a lost reply runs nothing twice."""


# Jobs


class JobList(Request, frozen=True, tag=True):
    """Reply: Jobs, newest change first."""

    project: str | None = None
    name: str | None = None
    """Case-insensitive part of the name or kind."""
    status: str | None = None
    """Status word or step name."""
    limit: int | None = 20
    all_kinds: bool = False
    """Also stand-alone agents, which AgentList shows."""


class JobShow(Request, frozen=True, tag=True):
    """Reply: JobDetail."""

    id: str


class JobStory(Request, frozen=True, tag=True):
    """Reply: Story: every fact of the log about this job, each with its cause."""

    id: str


class JobCancel(Request, frozen=True, tag=True):
    """Reply: JobsCancelled."""

    ids: tuple[str, ...]


class JobSuspend(Request, frozen=True, tag=True):
    """Reply: JobsSuspended."""

    ids: tuple[str, ...]
    reason: str = "suspended by request"
    """What is shown as the reason."""


class JobResume(Request, frozen=True, tag=True):
    """Run a failed or suspended job on. Reply: JobResumed."""

    id: str
    message: str | None = None
    vars: dict[str, str] = {}
    step: str | None = None
    """Where to go on; default: the steps that were interrupted, or the first failed step that is no clean-up step."""
    kill: bool = False


class JobResumeAll(Request, frozen=True, tag=True):
    """Reply: JobsResumed."""

    kill: bool = False
    project: str | None = None


class JobPrune(Request, frozen=True, tag=True):
    """Forget finished jobs. Reply: Pruned."""

    all: bool = False
    """Any age; else only those that ended more than 12 hours ago (cancelled ones at any age)."""
    failed: bool = False
    """Only failed ones, of any age."""
    dry_run: bool = False
    project: str | None = None


class JobLogs(Request, frozen=True, tag=True):
    """Reply: Log."""

    id: str
    lines: int | None = 50
    """From the end; None: all. Ignored when `offset` is given."""
    offset: int | None = None
    step: str | None = None
    """Only lines of this step."""


# Workspaces and projects


class WorkspaceList(Request, frozen=True, tag=True):
    """Reply: Workspaces, newest first."""

    project: str | None = None
    limit: int | None = 20


class WorkspaceShow(Request, frozen=True, tag=True):
    """Reply: WorkspaceView."""

    id: str


class WorkspaceDrop(Request, frozen=True, tag=True):
    """Delete workspaces. Reply: WorkspacesDropped."""

    id: str | None = None
    failed: bool = False
    """Those of failed jobs, and those that could not be made."""
    all: bool = False
    force: bool = False
    """Also those whose owner is not finished."""
    project: str | None = None


class WorkspacePrune(Request, frozen=True, tag=True):
    """Delete workspaces of finished owners and folders that no owner claims. Reply: Pruned."""

    all: bool = False
    """Any age; else only those older than 12 hours."""
    dry_run: bool = False
    project: str | None = None


class DecisionResolve(Request, frozen=True, tag=True):
    """Answer a decision. Reply: DecisionResolved."""

    id: str
    choices: tuple[tuple[int, ...], ...] = ()
    """One for each question (one in all when there are none): numbers from 1; several only where a question allows it."""
    message: str = ""
    by: str = ""
    """Who answers."""
    channel: str = "cli"


class DecisionReopen(Request, frozen=True, tag=True):
    """Open a dismissed decision again. Reply: DecisionResolved."""

    id: str


class DecisionList(Request, frozen=True, tag=True):
    """Reply: Decisions, newest first."""

    project: str | None = None
    all: bool = False
    """Also those that are no longer open."""


class DecisionShow(Request, frozen=True, tag=True):
    """Reply: DecisionView."""

    id: str


class AgentList(Request, frozen=True, tag=True):
    """Reply: Agents, newest first."""

    project: str | None = None
    job: str | None = None
    status: str | None = None
    limit: int | None = 20


class AgentShow(Request, frozen=True, tag=True):
    """Reply: AgentView. The id may be that of an agent, or of its job: the newest of that."""

    id: str


class AgentSend(Request, frozen=True, tag=True):
    """Type a message into a session. Reply: AgentView."""

    id: str
    message: str


class AgentKill(Request, frozen=True, tag=True):
    """End a session; what its definition says about dying follows. Reply: AgentView."""

    id: str


class AgentResume(Request, frozen=True, tag=True):
    """Let an agent go on: a message for a session that is up, else a new one for its conversation. Reply: AgentView."""

    id: str
    message: str | None = None
    kill: bool = False
    """End a session that is up, and go on in a new one."""


class AgentResumeAll(Request, frozen=True, tag=True):
    """Resume every agent whose session has ended; with `kill` every one. Reply: AgentsResumed."""

    kill: bool = False
    message: str | None = None
    project: str | None = None


class AgentPeek(Request, frozen=True, tag=True):
    """What an agent's terminal shows, or showed last. Reply: AgentScreen."""

    id: str


class AgentLogs(Request, frozen=True, tag=True):
    """What agents did. The id may be that of an agent, or of a job: all of its agents. Reply: Logs."""

    id: str
    step: str | None = None
    """Only agents of this step."""
    lines: int | None = 50
    """From the end of each log; None: all. Ignored for logs that have an offset."""
    offsets: dict[str, int] = {}
    """Full agent id -> byte from which its log is read."""


class AgentAttach(Request, frozen=True, tag=True):
    """Enter an agent's terminal. Reply: AgentAttached, after which the connection carries frames of wire/frames.py alone."""

    id: str
    cols: int = 0
    rows: int = 0
    """Size of the person's terminal, which the agent's takes on; 0 leaves it as it is."""


class AgentPrune(Request, frozen=True, tag=True):
    """Forget the agents of jobs that have ended; the jobs stay. Reply: Pruned."""

    all: bool = False
    """Any age; else only those of completed and cancelled jobs that ended more than 24 hours ago."""
    dry_run: bool = False
    project: str | None = None


class ProjectList(Request, frozen=True, tag=True):
    """Reply: Projects."""

    project: str | None = None


# Tokens


class TokenCreate(Request, frozen=True, tag=True):
    """Make a token for a person or a program outside. Reply: TokenCreated, the only one that ever shows it."""

    verbs: tuple[Verb, ...]
    expires_ms: int
    """From now."""
    project: str = ""
    """The only project that it reaches; empty: every one."""
    name: str = ""
    """What people call it; also who answered a decision with it."""


class TokenList(Request, frozen=True, tag=True):
    """Reply: Tokens, newest first."""

    project: str | None = None


class TokenRevoke(Request, frozen=True, tag=True):
    """Let a token open nothing any more. Reply: TokenRevoked."""

    id: str


JobRequest = JobCancel | JobSuspend | JobResume | JobResumeAll | JobPrune
"""Requests that change jobs."""
DecisionRequest = DecisionResolve | DecisionReopen
"""Requests that change decisions."""
AgentRequest = AgentSend | AgentKill | AgentResume | AgentResumeAll | AgentPrune
"""Requests that change sessions."""
WorkspaceRequest = WorkspaceDrop | WorkspacePrune
TokenRequest = TokenCreate | TokenRevoke
Query = (
    Ping
    | DaemonStatus
    | StatusOverview
    | DaemonLogs
    | Watch
    | JobList
    | JobShow
    | JobStory
    | JobLogs
    | WorkspaceList
    | WorkspaceShow
    | ProjectList
    | DecisionList
    | DecisionShow
    | AgentList
    | AgentShow
    | AgentPeek
    | AgentLogs
    | TokenList
)
"""Requests that change nothing."""
Change = RunCommand | JobRequest | WorkspaceRequest | DecisionRequest | AgentRequest | TokenRequest
AnyRequest = Hello | DaemonStop | Query | Change | AgentAttach

_QUERIES: Final = frozenset(get_args(Query))
_CHANGES: Final = frozenset(get_args(Change))


def is_query(request: AnyRequest) -> TypeGuard[Query]:
    """Whether it changes nothing; every request is asked, and `isinstance` with so many classes takes its time."""
    return type(request) in _QUERIES


def is_change(request: AnyRequest) -> TypeGuard[Change]:
    """Whether the core decides about it."""
    return type(request) in _CHANGES
