"""A stand-in for the daemon that has nothing but news: 1,000 jobs, of which 60 have an agent that never stops talking.

Rule: a process of its own, so that what it costs is nobody else's. It answers each question of the live view at once with the
worst that a real daemon could say: every busy job has changed again, and every log has grown by what was written meanwhile.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

from oj_daemon.wire.frames import FrameReader, pack
from oj_daemon.wire.names import ID_ALPHABET, PROTOCOL

Message = dict[str, Any]
LINES_PER_SECOND: Final = 100
ROWS: Final = 40
COLS: Final = 120


def id_of(prefix: str, number: int) -> str:
    """A whole id."""
    digits = ""
    for _ in range(16):
        number, digit = divmod(number * 48_271 + 11, 32)
        digits += ID_ALPHABET[digit]
        number += digit
    return prefix + digits


class World:
    """What there is."""

    def __init__(self, jobs: int, agents: int) -> None:
        self.began = time.time()
        self.agents = agents
        self.jobs = [self._job(at) for at in range(jobs)]
        self.seq = 1

    def _job(self, at: int) -> Message:
        now = int(self.began * 1000)
        is_busy = at < self.agents
        return {
            "id": id_of("job-", at + 1), "name": f"build-{at}", "kind": "build", "project": f"project-{at % 7}",
            "status": "running" if is_busy else "completed" if at % 5 else "failed", "step": "code" if is_busy else "done",
            "step_status": "running" if is_busy else "completed", "reason": "code runs" if is_busy else "exit code 1",
            "created_at_ms": now - at * 60_000, "updated_at_ms": now - at * 1_000, "retries": at % 3,
        }  # fmt: skip

    def agent(self, at: int) -> Message:
        """The session of a busy job."""
        job, spent = self.jobs[at], time.time() - self.began
        return {
            "type": "AgentView", "id": id_of("agt-", at + 1), "name": f"coder-{at}", "owner": f"job:{job['id']}",
            "job_name": job["name"], "step": "code", "project": job["project"], "status": "running", "state": "working",
            "detail": "", "last_message": f"at it for {spent:.1f} s", "session_id": "s", "runtime": "local", "attempts": {},
            "exit_reason": "", "created_at_ms": job["created_at_ms"], "updated_at_ms": int(time.time() * 1000),
            "finished_at_ms": 0, "decision_id": "", "files_read": int(spent * 10), "files_written": int(spent),
            "commands": int(spent * 3),
            "usage": {"input_tokens": int(spent * 999), "output_tokens": int(spent * 99), "cache_read_tokens": 0,
                      "cache_write_tokens": 0, "total_cost_usd": spent / 50, "request_count": 1, "total_api_ms": 0},
        }  # fmt: skip

    def lines(self, offset: int) -> Message:
        """What a log has grown by; each line has 100 bytes."""
        there = int((time.time() - self.began) * LINES_PER_SECOND) + 2_000
        first = offset // 100
        text = "".join(
            f"2026-01-01T00:00:00Z [code] line {at:07} ".ljust(99, "x") + "\n"
            for at in range(first, there)
        )
        return {"content": text, "offset": there * 100, "restarted": False}

    def changes(self, asked: Message) -> Message:
        """Everything that is busy has changed."""
        self.seq += 1
        is_first = not asked.get("since")
        news: Message = {
            "type": "Changes", "seq": self.seq, "epoch": 1, "is_snapshot": is_first, "jobs": [], "agents": [], "decisions": [],
            "workspaces": [], "gone": [], "overview": None, "facts": [], "is_gapless": True, "details": [], "missing": [],
            "logs": {id_: self.lines(offset) for id_, offset in asked.get("logs", {}).items()},
        }  # fmt: skip
        if "job" in asked.get("nouns", ()):
            now = int(time.time() * 1000)
            for job in self.jobs[: self.agents]:
                job["updated_at_ms"] = now
            news["jobs"] = self.jobs if is_first else self.jobs[: self.agents]
            news["agents"] = [self.agent(at) for at in range(self.agents)]
        news["details"] = [self.detail(id_) for id_ in asked.get("ids", ())]
        return news

    def detail(self, job_id: str) -> Message:
        """A job in full."""
        at, job = next((at, job) for at, job in enumerate(self.jobs) if job["id"] == job_id)
        run = {
            "name": "code", "run": 1, "visit": 1, "attempt": 1, "status": "running", "outcome": "running", "detail": "",
            "exit_code": None, "started_at_ms": job["created_at_ms"], "finished_at_ms": 0, "retry_at_ms": 0,
            "deadline_at_ms": 0,
        }  # fmt: skip
        node = {
            "name": "code",
            "kind": "agent",
            "on_done": [],
            "on_fail": "",
            "on_cancel": "",
            "after": [],
        }
        return {
            "type": "JobDetail", **job, "error": "", "finished_at_ms": 0, "cwd": "/p", "vars": {}, "workspace": None,
            "workspace_path": "/p", "steps": [run], "graph": [node], "runbook": "r", "log_path": "l", "seq": self.seq,
            "agents": [self.agent(at)] if at < self.agents else [], "decisions": [],
        }  # fmt: skip

    def answer(self, asked: Message) -> Message:  # noqa: PLR0911 - one line a question
        """The answer to any question that the live view has."""
        match asked["type"]:
            case "Watch":
                return self.changes(asked)
            case "AgentList":
                every = [self.agent(at) for at in range(self.agents)]
                return {"type": "Agents", "agents": every, "total": len(every)}
            case "AgentPeek":
                at = int(time.time() * 10)
                rows = [
                    f"\x1b[3{row % 8}mrow {row} at {at} ".ljust(COLS, "·") + "\x1b[0m"
                    for row in range(ROWS)
                ]
                return {"type": "AgentScreen", "agent_id": asked["id"], "name": "coder", "status": "running", "live": True,
                        "lines": rows, "ansi": rows, "cols": COLS, "rows": ROWS}  # fmt: skip
            case "AgentLogs":
                chunk = self.lines(0)
                log = {
                    "agent_id": asked["id"],
                    "name": "coder",
                    "step": "code",
                    "log_path": "l",
                    "has_more": False,
                    **chunk,
                }
                return {"type": "Logs", "logs": [log], "is_over": False}
            case "JobLogs":
                return {"type": "Log", "log_path": "l", "has_more": False, **self.lines(0)}
            case "JobShow":
                return self.detail(asked["id"])
            case "AgentShow":
                return self.agent(0)
            case kind:
                return {
                    "type": "Error",
                    "message": f"{kind}: not known to the bench",
                    "code": "invalid",
                    "hint": "",
                }


def main() -> None:
    """Serve until we are ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("socket", type=Path)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--agents", type=int, default=60)
    options = parser.parse_args()
    world = World(options.jobs, options.agents)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(options.socket))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, world), daemon=True).start()


def _serve(connection: socket.socket, world: World) -> None:
    reader = FrameReader()
    while data := connection.recv(1 << 16):
        for payload in reader.feed(data):
            asked = json.loads(payload)
            if asked["type"] == "Hello":
                reply = {"type": "HelloReply", "protocol": PROTOCOL, "version": "bench"}
            else:
                reply = world.answer(asked)
            connection.sendall(pack(reply, 200 << 20))


if __name__ == "__main__":
    main()
