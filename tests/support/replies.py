"""Replies as a daemon would send them, built from the real structs so that they cannot drift from the contract."""

from __future__ import annotations

from typing import Any

import msgspec

from oj_daemon.wire import replies

Message = dict[str, Any]

JOB = "job-4f9h2k7m1n3p5q8r"
OTHER = "job-z0y1x2w3v4t5s6r7"
WORKSPACE = "wks-8a7b6c5d4e3f2g1h"
HOUR = 3_600_000
NOW = 1_800_000_000_000
"""The moment that tests pretend it is."""


def reply(name: str, /, **fields: object) -> Message:
    """A reply of this type; fields that are missing or unknown are errors, as in the daemon."""
    kind = getattr(replies, name)
    return _plain(msgspec.convert({"type": name, **fields}, kind))


def view(name: str, /, **fields: object) -> Message:
    """A view inside of a reply."""
    kind = getattr(replies, name)
    return _plain(msgspec.convert(fields, kind))


def _plain(value: msgspec.Struct) -> Message:
    """As a front end gets it: by way of JSON, where tuples are lists."""
    built = msgspec.json.decode(msgspec.json.encode(value))
    assert isinstance(built, dict)
    return built


def summary(**changes: object) -> Message:
    """A row of `oj job list`."""
    fields: Message = {
        "id": JOB, "name": "fix-login", "kind": "build", "project": "shop", "status": "running", "step": "test",
        "step_status": "running", "reason": "", "created_at_ms": NOW - HOUR, "updated_at_ms": NOW - 5000, "retries": 0,
    }  # fmt: skip
    return view("JobSummary", **{**fields, **changes})


def step(name: str, status: str = "completed", /, **changes: object) -> Message:
    """One run of a step, which took three seconds."""
    fields: Message = {
        "name": name, "run": 1, "visit": 1, "attempt": 1, "status": status, "outcome": status, "detail": "",
        "exit_code": 0 if status == "completed" else None, "started_at_ms": NOW - 60_000,
        "finished_at_ms": 0 if status in ("running", "waiting", "pending") else NOW - 57_000,
        "retry_at_ms": 0, "deadline_at_ms": 0,
    }  # fmt: skip
    return view("StepView", **{**fields, **changes})


def node(name: str, /, *on_done: str, **changes: object) -> Message:
    """A step as defined."""
    fields: Message = {
        "name": name, "kind": "shell", "on_done": list(on_done), "on_fail": "", "on_cancel": "", "after": [],
    }  # fmt: skip
    return view("StepNode", **{**fields, **changes})


def workspace(**changes: object) -> Message:
    """A workspace."""
    fields: Message = {
        "id": WORKSPACE, "path": "/state/workspaces/wks-8a7b6c5d4e3f2g1h", "branch": "ws-8a7b", "kind": "worktree",
        "status": "ready", "reason": "", "owner": f"job:{JOB}", "owner_status": "running", "project": "shop",
        "created_at_ms": NOW - HOUR,
    }  # fmt: skip
    return reply("WorkspaceView", **{**fields, **changes})


def detail(**changes: object) -> Message:
    """A job in full."""
    fields: Message = {
        "id": JOB, "name": "fix-login", "kind": "build", "project": "shop", "status": "running", "step": "test",
        "step_status": "running", "reason": "", "error": "", "created_at_ms": NOW - HOUR, "updated_at_ms": NOW - 5000,
        "finished_at_ms": 0, "retries": 0, "cwd": "/home/me/shop", "vars": {}, "workspace": None,
        "workspace_path": "/home/me/shop", "steps": [], "graph": [], "runbook": ".oj/runbooks/build.hcl",
        "log_path": f"/state/logs/job/{JOB}.log", "seq": 7,
    }  # fmt: skip
    return reply("JobDetail", **{**fields, **changes})


def changes(
    *jobs: Message, seq: int = 7, missing: tuple[str, ...] = (), logs: Message | None = None
) -> Message:
    """News of jobs."""
    return reply("JobChanges", seq=seq, jobs=list(jobs), missing=list(missing), logs=logs or {})
