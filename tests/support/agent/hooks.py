"""Hooks of a settings file, run as Claude Code runs them.

Rule: all commands of one event run at once, each gets the payload on stdin and has its own timeout; exit code 2 blocks
with stderr as the reason, any other failure is ignored, and stdout is text or a JSON answer. Who waits for them goes on
reading the terminal meanwhile (`pump`).
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


class Result:
    """What one hook command said."""

    def __init__(self, command: str, code: int, stdout: str, stderr: str, ms: int) -> None:
        self.command = command
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
        self.ms = ms

    @property
    def answer(self) -> Json:
        """The JSON object on stdout; empty when there is none."""
        try:
            answer = json.loads(self.stdout)
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    @property
    def blocked(self) -> str | None:
        """The reason for which the hook blocks; None when it does not."""
        if self.code == 2:
            return self.stderr.strip()
        if self.answer.get("decision") == "block":
            return str(self.answer.get("reason", ""))
        return None

    @property
    def context(self) -> str:
        """What it adds to the conversation."""
        extra = self.answer.get("hookSpecificOutput", {}).get("additionalContext")
        if extra:
            return str(extra)
        return "" if self.answer or self.code else self.stdout.rstrip("\n")


class Running:
    """The commands of one event, started."""

    def __init__(self, commands: list[tuple[str, float]], payload: Json, cwd: str) -> None:
        self.begun = time.monotonic()
        self.done: list[Result] = []
        self._left: list[tuple[subprocess.Popen[bytes], str, float, Any, Any, int]] = []
        data = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        env = {**os.environ, "CLAUDE_PROJECT_DIR": cwd}
        for command, timeout in commands:
            # Files, so that neither a long payload nor a long answer can block anybody.
            given, out, err = (tempfile.TemporaryFile() for _ in range(3))  # noqa: SIM115  # closed below  # closed below
            given.write(data)
            given.seek(0)
            process = subprocess.Popen(
                ["/bin/sh", "-c", command], stdin=given, stdout=out, stderr=err, cwd=cwd, env=env
            )
            given.close()
            watch = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else -1
            self._left.append((process, command, self.begun + timeout, out, err, watch))

    @property
    def watched(self) -> list[int]:
        """Descriptors that become readable when a command ends."""
        return [entry[5] for entry in self._left if entry[5] >= 0]

    @property
    def pending(self) -> bool:
        """Whether a command still runs."""
        self._collect()
        return bool(self._left)

    def finished(self) -> list[Result]:
        """Return what has ended so far."""
        self._collect()
        return self.done

    def _collect(self) -> None:
        now = time.monotonic()
        for entry in list(self._left):
            process, command, deadline, out, err, watch = entry
            if process.poll() is None:
                if now < deadline:
                    continue
                process.kill()
                process.wait()
            self._left.remove(entry)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode("utf-8", "replace"))
                file.close()
            if watch >= 0:
                os.close(watch)
            ms = int((now - self.begun) * 1000)
            self.done.append(Result(command, process.returncode, texts[0], texts[1], ms))


class Hooks:
    """All hooks that the settings name."""

    def __init__(self, settings: list[Json]) -> None:
        self._groups: dict[str, list[Json]] = {}
        for one in settings:
            for event, groups in (one.get("hooks") or {}).items():
                self._groups.setdefault(event, []).extend(groups)

    def start(self, event: str, subject: str, payload: Json, cwd: str) -> Running:
        """Start the commands whose matcher fits the subject (a tool's name, a source, ...)."""
        commands: dict[str, float] = {}
        for group in self._groups.get(event, []):
            matcher = group.get("matcher") or "*"
            if matcher != "*" and not re.fullmatch(matcher, subject):
                continue
            for hook in group.get("hooks", []):
                if hook.get("type", "command") == "command":
                    # The same command is run once, as there.
                    commands.setdefault(hook["command"], float(hook.get("timeout", 60)))
        return Running(list(commands.items()), payload, cwd)


def wait(running: Running, pump: Callable[[list[int], float], None]) -> list[Result]:
    """Wait for all commands; the pump waits on their descriptors and on the terminal."""
    while running.pending:
        pump(running.watched, 0.2 if running.watched else 0.01)
    return running.done


def readable(descriptors: list[int], seconds: float) -> list[int]:
    """Return which descriptors can be read, after at most so long."""
    ready: list[int]
    ready, _, _ = select.select(descriptors, [], [], max(0.0, seconds))
    return ready
