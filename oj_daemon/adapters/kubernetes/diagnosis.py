"""The words for what can be the matter with a place.

Rule: pure; one fixed list of kinds, whatever found them: a pod (`diagnose.py`) or a refused request (`refusals.py`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Kind(StrEnum):
    """Everything that can be said about a place. The words are stable: metrics and `on_error` use them."""

    STARTING = "starting"
    GATED = "gated"
    RUNNING = "running"
    COMPLETED = "completed"

    UNSCHEDULABLE = "unschedulable"
    IMAGE_PULL = "image_pull"
    CONFIG = "config"
    INIT_FAILED = "init_failed"
    ADMISSION = "admission"
    OOM_KILLED = "oom_killed"
    DEADLINE = "deadline"
    CRASHED = "crashed"

    EVICTED = "evicted"
    NODE_LOST = "node_lost"
    PREEMPTED = "preempted"
    DELETED = "deleted"

    QUOTA = "quota"
    ALREADY_EXISTS = "already_exists"
    INVALID = "invalid"
    FORBIDDEN = "forbidden"
    UNAUTHORIZED = "unauthorized"
    CONFLICT = "conflict"
    NOT_FOUND = "not_found"
    NO_NAMESPACE = "no_namespace"
    THROTTLED = "throttled"
    EXPIRED = "expired"
    SERVER_ERROR = "server_error"


INFRA: Final = frozenset({
    Kind.EVICTED, Kind.NODE_LOST, Kind.PREEMPTED, Kind.DELETED, Kind.ADMISSION,
})  # fmt: skip
"""Not the fault of what ran: the cluster took the place away."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What is the matter with one place, or with one request."""

    kind: Kind
    message: str
    """One sentence for people; the cluster's own words are in it as they came."""
    advice: str = ""
    """What to type or do about it; empty: nothing."""
    container: str = ""
    reason: str = ""
    """The cluster's own word."""
    exit_code: int | None = None
    is_infra: bool = False
    """`infra_lost`, not `failed`."""
    is_waiting: bool = False
    """Something has to happen first: more time, room in the quota, another node."""
    is_final: bool = False
    """Nothing more comes of this pod, or of this request however often it is repeated."""
    is_hopeless: bool = False
    """It is not over, but waiting does not help."""
    has_run: bool = False
    """The agent had begun: what it did may be lost."""
    ends_at: str = ""
    """When a pod that is being deleted is gone at the latest, unless its node is lost."""
    retry_after_ms: int | None = None
    """How long the API server wants to be left alone."""
    log_tail: str = ""


def as_text(value: object) -> str:
    """A text of the API's, or nothing."""
    return value if isinstance(value, str) else ""


def as_number(value: object) -> int:
    """A number of the API's, or 0."""
    return value if isinstance(value, int) else 0


def joined(sentence: str, words: str) -> str:
    """Our words, then the cluster's own."""
    return f"{sentence}: {words}" if sentence and words else sentence or words
