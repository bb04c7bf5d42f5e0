"""Replies as a daemon would send them, built from the real structs so that they cannot drift from the contract."""

from __future__ import annotations

from typing import Any

import msgspec

from oj_daemon.wire import replies

Message = dict[str, Any]

JOB = "job-4f9h2k7m1n3p5q8r"
OTHER = "job-z0y1x2w3v4t5s6r7"
AGENT = "agt-7m2n4p6q8r0s1t3v"
DECISION = "dec-k3j5h7g9f1d2c4b6"
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
    return reply("Changes", seq=seq, details=list(jobs), missing=list(missing), logs=logs or {})


def agent(**changes: object) -> Message:
    """A session that works on the step `code` of the job."""
    fields: Message = {
        "id": AGENT, "name": "coder", "owner": f"job:{JOB}", "job_name": "fix-login", "step": "code", "project": "shop",
        "status": "running", "state": "working", "detail": "", "last_message": "", "session_id": "s-1",
        "runtime": "local", "attempts": {}, "exit_reason": "", "created_at_ms": NOW - HOUR,
        "updated_at_ms": NOW - 5000, "finished_at_ms": 0,
    }  # fmt: skip
    return reply("AgentView", **{**fields, **changes})


def options(*labels: str, recommended: str = "", first: int = 1) -> list[Message]:
    """Numbered options without descriptions."""
    return [
        {"number": number, "label": label, "description": "", "recommended": label == recommended}
        for number, label in enumerate(labels, first)
    ]


def decision(**changes: object) -> Message:
    """A decision about an idle agent of the job."""
    fields: Message = {
        "id": DECISION, "owner_id": JOB, "owner_name": "fix-login", "project": "shop", "agent_id": AGENT,
        "agent_name": "coder", "step": "code", "source": "idle", "status": "open", "summary": "idle, it said: Done?",
        "context": "Agent coder is idle and waits.\n\nLast agent message:\nDone?",
        "options": options("Nudge", "Done", "Cancel", "Dismiss", recommended="Nudge"), "question_groups": [],
        "choices": [], "message": "", "by": "", "channel": "", "note": "", "created_at_ms": NOW - 5 * 60_000,
        "resolved_at_ms": 0, "deadline_at_ms": 0, "default": "",
    }  # fmt: skip
    return reply("DecisionView", **{**fields, **changes})


def asked(*several: bool) -> Message:
    """Fields of a decision that asks questions with two options each; `several` says which take several answers."""
    groups: list[Message] = [
        {
            "question": f"Which {at}?", "header": f"H{at}", "multi_select": many,
            "options": [
                {**option, "description": f"about {option['label']}"}
                for option in options(f"first {at}", f"second {at}")
            ],
        }
        for at, many in enumerate(several, 1)
    ]  # fmt: skip
    own: list[Message] = groups[0]["options"] if len(groups) == 1 else []
    ours = options("Other", "Cancel", "Dismiss", first=len(own) + 1)
    return {"source": "question", "question_groups": groups, "options": [*own, *ours]}
