"""Ids and status words, shared by wire, core and screens.

Rule: only the standard library; no other module of ours is imported here.

Ids are lower-case: a prefix that names the noun, then 16 characters of Crockford base32 (digits and letters without
i, l, o, u). The short form is the first 8 characters after the prefix.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NewType

JobId = NewType("JobId", str)
AgentId = NewType("AgentId", str)
CrewId = NewType("CrewId", str)
WorkspaceId = NewType("WorkspaceId", str)
DecisionId = NewType("DecisionId", str)
TokenId = NewType("TokenId", str)
NotificationId = NewType("NotificationId", str)

PROTOCOL: Final = 1
"""Changes only when an old client would misread a new daemon, or the other way round."""

ID_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford base32, lower case."""
ID_LENGTH: Final = 16
"""Characters after the prefix: 80 bits."""
SHORT_LENGTH: Final = 8
"""Characters of the short form."""
PREFIXES: Final = {
    "job": "job-",
    "agent": "agt-",
    "crew": "crw-",
    "workspace": "wks-",
    "decision": "dec-",
    "token": "tok-",
    "notification": "ntf-",
}


def short_id(full: str) -> str:
    """The first 8 characters after the prefix; ids of queue items, which have no prefix, are only cut."""
    if full[3:4] == "-" and full[:4] in PREFIXES.values():
        return full[4 : 4 + SHORT_LENGTH]
    return full[:SHORT_LENGTH]


class JobStatus(StrEnum):
    """Where a job is."""

    PENDING = "pending"
    """Created; its variables or its workspace are being made ready, no step has started."""
    RUNNING = "running"
    """At least one step is active, or the next is about to start."""
    WAITING = "waiting"
    """A decision is open."""
    ENDING = "ending"
    """Its active steps are being ended: for a failure, a cancel or a suspend."""
    SUSPENDED = "suspended"
    """Stopped by someone, workspace kept, may be resumed."""
    DONE = "completed"
    FAILED = "failed"
    """Workspace kept; may be resumed."""
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Nothing more happens unless someone asks for it."""
        return self in TERMINAL


TERMINAL: Final = frozenset(
    {JobStatus.SUSPENDED, JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED}
)


class StepStatus(StrEnum):
    """Where one run of a step is."""

    PENDING = "pending"
    """Entered, or waiting for its next try."""
    RUNNING = "running"
    WAITING = "waiting"
    """A decision is open."""
    DONE = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Ended by us: a sibling failed, or the job was cancelled."""
    SUSPENDED = "suspended"
    """Ended by a suspend; runs again on resume."""


class AgentStatus(StrEnum):
    """Where one agent session is."""

    QUEUED = "queued"
    """Waits for a free slot of its definition (`max_concurrency`)."""
    STARTING = "starting"
    """Ordered; its program is not known to be ready."""
    RUNNING = "running"
    """Working, or about to."""
    WAITING = "waiting"
    """Idle, or at a prompt: somebody or something has to act."""
    ENDING = "ending"
    """It is being ended."""
    COMPLETED = "completed"
    FAILED = "failed"
    """It could not start, or its owner failed with it."""
    GONE = "gone"
    """It ended by itself, or vanished, and was replaced or given up."""


ENDED_AGENTS: Final = frozenset({AgentStatus.COMPLETED, AgentStatus.FAILED, AgentStatus.GONE})


class Trigger(StrEnum):
    """What an agent did that its definition has an action for."""

    IDLE = "idle"
    DEAD = "dead"
    PROMPT = "prompt"
    ERROR = "error"


class PromptKind(StrEnum):
    """What a dialog of the agent asks."""

    PERMISSION = "permission"
    PLAN = "plan"
    QUESTION = "question"
    SETUP = "setup"


class DecisionSource(StrEnum):
    """Why a human is asked."""

    IDLE = "idle"
    DEAD = "dead"
    ERROR = "error"
    GATE = "gate"
    APPROVAL = "approval"
    QUESTION = "question"
    PLAN = "plan"


class DecisionStatus(StrEnum):
    """Where a decision is."""

    OPEN = "open"
    RESOLVED = "resolved"
    DISMISSED = "dismissed"
    """Put aside by someone; its owner still waits, and `oj decision reopen` brings it back."""
    OBSOLETE = "obsolete"
    """No longer needed: superseded, or the agent went on or ended."""


class WorkspaceStatus(StrEnum):
    """Where a workspace is."""

    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"
    KEPT = "kept"
    """It was to go, and holds work that is nowhere else."""


class WorkspaceKind(StrEnum):
    """What a workspace is made of."""

    FOLDER = "folder"
    WORKTREE = "worktree"
    CLONE = "clone"
    """Of the repository's URL: the caller's own checkout is on another machine."""


class Verb(StrEnum):
    """What a scoped token may do."""

    READ = "read"
    """Ask: status, lists, logs, screens."""
    RUN = "run"
    """Run commands of runbooks."""
    SEND = "send"
    """Type messages into agents' sessions."""
    ANSWER = "answer"
    """Answer decisions."""
    MANAGE = "manage"
    """Cancel, suspend, resume, kill, drop and prune."""
    ATTACH = "attach"
    """Enter agents' terminals."""
    DAEMON = "daemon"
    """Stop the daemon, and make and revoke tokens."""


class Noun(StrEnum):
    """What Watch can be asked to tell of."""

    JOB = "job"
    """Jobs, and all that belongs to them: agents, decisions, workspaces."""
    OVERVIEW = "overview"
    """What `oj status` shows."""
    FACT = "fact"
    """What happened, one by one."""


class Severity(StrEnum):
    """How much a notification matters, least first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
    """Nothing goes on until somebody acts."""
