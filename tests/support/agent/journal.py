"""The session log, written as Claude Code writes it: one JSON object a line, each naming the one before.

Rule: an entry is one write at the end of the file; keys and their order are those of the recordings. A resumed session
goes on in the same file, after its last entry.
"""

# pathlib would be a fifth of the start, and tests start this by the dozen.
# ruff: noqa: PTH103, PTH118, PTH120, PTH123

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

Json = dict[str, Any]

VERSION = "2.1.197"
MODEL = "claude-opus-4-8"
USAGE = {
    "input_tokens": 1200,
    "cache_creation_input_tokens": 10,
    "cache_read_input_tokens": 500,
    "output_tokens": 34,
}
MORE_USAGE = {
    "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
    "service_tier": "standard",
    "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
    "inference_geo": "",
    "iterations": [],
    "speed": "standard",
}
SUMMARY = (
    "This session is being continued from a previous conversation that ran out of context. The summary below covers "
    "the earlier portion of the conversation."
)


def new_id() -> str:
    """Return a random uuid (the module of that name costs more to import than this)."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def now() -> str:
    """Return the time as the log writes it."""
    seconds = time.time()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1000) % 1000:03d}Z"


def path_of(config: str, cwd: str, session: str) -> str:
    """Return where a session's log lies."""
    folder = re.sub(r"[^A-Za-z0-9]", "-", cwd)
    return os.path.join(config, "projects", folder, session + ".jsonl")


class Journal:
    """One session log."""

    def __init__(self, path: str, cwd: str, session: str) -> None:
        self.path = path
        self.cwd = cwd
        self.session = session
        self.usage: Json = dict(USAGE)
        self._parent: str | None = None
        self._branch = _branch(cwd)

    def entries(self) -> list[Json]:
        """Read the whole log; half lines are skipped."""
        found: list[Json] = []
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        found.append(json.loads(line))
                    except ValueError:
                        continue
        except FileNotFoundError:
            pass
        return found

    def resume(self) -> list[Json]:
        """Continue after the last entry; returns all there are."""
        entries = self.entries()
        for entry in entries:
            self._parent = entry.get("uuid", self._parent)
        return entries

    def raw(self, data: bytes) -> None:
        """Append bytes as they are."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:
            file.write(data)

    def truncate(self) -> None:
        """Empty the log."""
        with open(self.path, "wb"):
            self._parent = None

    def note(self, kind: str, **fields: object) -> None:
        """Append an entry outside of the chain."""
        self._write({"type": kind, **fields, "sessionId": self.session})

    def chained(self, fields: Json, uid: str | None = None, after: Json | None = None) -> str:
        """Append an entry of the chain; returns its uuid."""
        uid = uid or new_id()
        entry = {
            "parentUuid": self._parent,
            "isSidechain": False,
            **fields,
            "uuid": uid,
            "timestamp": now(),
            **(after or {}),
            "userType": "external",
            "entrypoint": "cli",
            "cwd": self.cwd,
            "sessionId": self.session,
            "version": VERSION,
            "gitBranch": self._branch,
        }
        self._parent = uid
        self._write(entry)
        return uid

    def begin(self, mode: str) -> None:
        """Append what stands at the head of a new log."""
        self.note("mode", mode="normal")
        self.note("permission-mode", permissionMode=mode)

    def prompt(self, text: str, prompt_id: str, mode: str, source: str) -> None:
        """Append what a person said."""
        uid = new_id()
        snapshot = {"messageId": uid, "trackedFileBackups": {}, "timestamp": now()}
        self._write(
            {
                "type": "file-history-snapshot",
                "messageId": uid,
                "snapshot": snapshot,
                "isSnapshotUpdate": False,
            }
        )
        after = {"permissionMode": mode, "origin": {"kind": "human"}, "promptSource": source}
        self.user(text, prompt_id, uid, after)

    def user(
        self, content: object, prompt_id: str, uid: str | None = None, after: Json | None = None
    ) -> str:
        """Append a user entry with any content."""
        message = {"role": "user", "content": content}
        return self.chained({"promptId": prompt_id, "type": "user", "message": message}, uid, after)

    def feedback(self, text: str, prompt_id: str) -> None:
        """Append what a stop hook answered, which speaks as the user."""
        self.chained(
            {
                "promptId": prompt_id,
                "type": "user",
                "message": {"role": "user", "content": text},
                "isMeta": True,
            }
        )

    def assistant(self, block: Json, message_id: str, stop: str) -> str:
        """Append one block of an answer; blocks of one answer share the message id and its usage."""
        message = {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": [block],
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {**self.usage, **MORE_USAGE},
            "stop_details": None,
        }
        return self.chained({"message": message, "type": "assistant"})

    def result(
        self, tool_use: Json, content: str, prompt_id: str, source: str, response: object
    ) -> None:
        """Append a tool's result; a response that is text tells of an error."""
        block = {
            "tool_use_id": tool_use["id"],
            "type": "tool_result",
            "content": content,
            "is_error": isinstance(response, str),
        }
        after = {"toolUseResult": response, "sourceToolAssistantUUID": source}
        self.user([block], prompt_id, None, after)

    def synthetic(self, text: str, after: Json | None = None) -> None:
        """Append an answer that no model gave."""
        zero = dict.fromkeys(USAGE, 0)
        message = {
            "id": new_id(),
            "container": None,
            "model": "<synthetic>",
            "role": "assistant",
            "stop_details": None,
            "stop_reason": "stop_sequence",
            "stop_sequence": "",
            "type": "message",
            "usage": {**zero, **MORE_USAGE, "service_tier": None},
            "content": [{"type": "text", "text": text}],
            "context_management": None,
        }
        self.chained({"type": "assistant", "message": message}, None, after)

    def hook_success(self, event: str, name: str, result: Json) -> None:
        """Append what a start hook added to the context."""
        attachment = {
            "type": "hook_success",
            "hookName": name,
            "toolUseID": new_id(),
            "hookEvent": event,
            "content": result["stdout"].rstrip("\n"),
            **result,
        }
        self.chained({"attachment": attachment, "type": "attachment"})

    def permission(self, decision: str, tool_use_id: str) -> None:
        """Append that a PermissionRequest hook decided."""
        attachment = {
            "type": "hook_permission_decision",
            "decision": decision,
            "toolUseID": tool_use_id,
            "hookEvent": "PermissionRequest",
        }
        self.chained({"attachment": attachment, "type": "attachment"})

    def system(self, subtype: str, fields: Json, after: Json | None = None) -> None:
        """Append a system entry."""
        self.chained({"type": "system", "subtype": subtype, **fields}, None, after)

    def compact(self, prompt_id: str, summary: str) -> None:
        """Append the boundary and the summary of a compaction."""
        logical, self._parent = self._parent, None
        self.system(
            "compact_boundary",
            {
                "logicalParentUuid": logical,
                "content": "Conversation compacted",
                "isMeta": False,
                "level": "info",
                "compactMetadata": {"trigger": "manual", "preTokens": 1744, "durationMs": 41},
            },
        )
        flags = {"isVisibleInTranscriptOnly": True, "isCompactSummary": True}
        self.user(f"{SUMMARY}\n\n{summary}", prompt_id, None, flags)

    def command(self, name: str, prompt_id: str) -> None:
        """Append the echo of a slash command."""
        self.feedback(
            "<local-command-caveat>Caveat: The messages below were generated by the user while running local "
            "commands.</local-command-caveat>",
            prompt_id,
        )
        echo = f"<command-name>/{name}</command-name>\n            <command-message>{name}</command-message>"
        self.user(f"{echo}\n            <command-args></command-args>", prompt_id)

    def _write(self, entry: Json) -> None:
        text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
        self.raw(text.encode("utf-8", "surrogatepass") + b"\n")


def _branch(cwd: str) -> str:
    """Return the branch that is checked out, without asking git."""
    try:
        with open(os.path.join(cwd, ".git", "HEAD"), encoding="utf-8") as file:
            return file.read().strip().removeprefix("ref: refs/heads/")
    except OSError:
        return "HEAD"
