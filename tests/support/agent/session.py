"""An agent program in a terminal of its own, with every hook recorded: the real Claude Code or the scripted one.

Rule: it gets a HOME, a configuration folder and an environment made for this test, so nothing of the person's own
installation is read or changed. What it did is read from the recorded hooks and from its log; the terminal is asked only
for what nothing else tells. `close()` ends it whatever happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pexpect

from tests.support.waiting import until

Json = dict[str, Any]

EVENTS: Final = (
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PermissionRequest",
    "Notification",
    "Stop",
    "StopFailure",
    "SessionEnd",
)
SECONDS: Final = 60.0
"""A generous end for every wait: the program needs seconds to start on a loaded machine."""
ESCAPES: Final = re.compile(
    rb"\x1b\[[0-9;?<>=!]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    rb"|\x1b[P_^][^\x1b]*\x1b\\|\x1b[ -/]*[0-~]"
)
RECORDER: Final = Path(__file__).with_name("recorder.py")
SCRIPTED: Final = Path(__file__).with_name("claude")


def decision(behavior: str, **more: object) -> Json:
    """Return what a PermissionRequest hook answers."""
    said = {"behavior": behavior, **more}
    return {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": said}}


class Session:
    """One project, one configuration, one conversation; started as often as a test likes."""

    def __init__(
        self,
        program: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        events: Sequence[str] = EVENTS,
    ) -> None:
        self.program = list(program)
        self.folder = folder
        self.home = folder / "home"
        self.config = folder / "config"
        self.project = folder / "project"
        self.session = str(uuid.uuid4())
        self.events = events
        self.output = b""
        """All that the program wrote to its terminal since the last start or say()."""
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "CLAUDE_CONFIG_DIR": str(self.config),
            **{
                f"GIT_{who}_{what}": "test@localhost"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
            # The mark by which scripts/check finds processes that were left behind.
            **{name: os.environ[name] for name in ("OJ_TEST_RUN",) if name in os.environ},
            **environment,
        }
        self._child: pexpect.spawn[bytes] | None = None
        self._pump: threading.Thread | None = None
        for path in (self.home, self.config, self.project, folder / "answers"):
            path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.git("commit", "-q", "--allow-empty", "-m", "begin")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def git(self, *arguments: str) -> str:
        """Run git in the project."""
        command = ["git", *arguments]
        done = subprocess.run(
            command,
            cwd=self.project,
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout.strip()

    def settings(self) -> Path:
        """Write the settings file with our hooks; returns its path."""
        hooks = {}
        for event in self.events:
            command = f"{sys.executable} -S -E {RECORDER} {event} {self.folder}"
            entry = {"type": "command", "command": command, "timeout": 600}
            hooks[event] = [{"hooks": [entry]}]
        path = self.folder / "settings.json"
        path.write_text(json.dumps({"hooks": hooks}))
        return path

    def answer(self, event: str, number: int, text: str | Json) -> None:
        """Tell the recorder what to print when the event comes for the Nth time."""
        path = self.folder / "answers" / f"{event}.{number}"
        written = path.with_name("." + path.name)
        written.write_text(text if isinstance(text, str) else json.dumps(text))
        written.rename(path)

    def hold(self, event: str) -> None:
        """Let the recorder wait for its answer to this event."""
        (self.folder / "answers" / f"{event}.hold").touch()

    def start(self, *arguments: str, resume: bool = False) -> None:
        """Start the program; the arguments come last."""
        self.stop()
        which = "--resume" if resume else "--session-id"
        settings = ["--settings", str(self.settings())]
        command = [*self.program, which, self.session, *settings, *arguments]
        self.output = b""
        self._child = pexpect.spawn(
            command[0],
            command[1:],
            cwd=str(self.project),
            env=self.environment,
            dimensions=(40, 120),
        )
        self._pump = threading.Thread(target=self._read, args=(self._child,))
        self._pump.start()

    def _read(self, child: pexpect.spawn[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(child.child_fd, 65536):
                self.output += data

    def type(self, text: str | bytes) -> None:
        """Send keys."""
        assert self._child is not None
        self._child.send(text)

    def say(self, text: str) -> None:
        """Type a prompt and send it when it stands in the input line."""
        self.output = b""
        self.type(text)
        self.sees(text)
        self.type("\r")

    @property
    def seen(self) -> str:
        """What was written to the terminal, without escape sequences and blanks."""
        return re.sub(r"\s", "", ESCAPES.sub(b" ", self.output).decode("utf-8", "replace"))

    def sees(self, text: str, seconds: float = SECONDS) -> None:
        """Wait until the terminal has shown the text (blanks do not count)."""
        wanted = re.sub(r"\s", "", text)
        until(lambda: wanted in self.seen, seconds, lambda: f"{text!r} on\n{self.seen[-3000:]}")

    def settle(self, quiet: float = 0.5) -> None:
        """Wait until nothing was written to the terminal for a while."""
        last = (-1, 0.0)

        def still() -> bool:
            nonlocal last
            if len(self.output) != last[0]:
                last = (len(self.output), time.monotonic())
            return time.monotonic() - last[1] > quiet

        until(still, SECONDS, "a still terminal")

    def hooks(self, event: str = "") -> list[Json]:
        """Return the payloads recorded so far, of one event or of all."""
        path = self.folder / "hooks.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        entries = [json.loads(line) for line in lines]
        return [entry["payload"] for entry in entries if event in ("", entry["event"])]

    def story(self) -> list[str]:
        """Return the names of all hooks that came, in order."""
        return [payload["hook_event_name"] for payload in self.hooks()]

    def hook(self, event: str, number: int = 1, seconds: float = SECONDS) -> Json:
        """Wait for the Nth payload of an event."""
        until(
            lambda: len(self.hooks(event)) >= number,
            seconds,
            lambda: f"{event} {number}; came {self.story()}; terminal\n{self.seen[-3000:]}",
        )
        return self.hooks(event)[number - 1]

    def transcript(self) -> list[Json]:
        """Return the entries of the session log that the hooks name; half a line at its end is not there yet."""
        path = Path(self.hooks()[-1]["transcript_path"])
        text = path.read_text("utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]

    def logged(self, fits: Callable[[Json], object], seconds: float = SECONDS) -> Json:
        """Wait for an entry of the log: the real program writes it a while after hook and screen."""
        until(
            lambda: any(fits(entry) for entry in self.transcript()),
            seconds,
            lambda: f"such an entry in {[entry['type'] for entry in self.transcript()]}",
        )
        return next(entry for entry in self.transcript() if fits(entry))

    @property
    def pid(self) -> int:
        """The process id of the program."""
        assert self._child is not None
        assert self._child.pid is not None
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the program runs."""
        return self._child is not None and self._child.isalive()

    def ended(self) -> int:
        """Wait for the program's end; returns its exit code, or the negated signal."""
        child = self._child
        assert child is not None
        until(lambda: not self.alive, SECONDS, lambda: f"the end\n{self.seen[-2000:]}")
        return -(child.signalstatus or 0) if child.exitstatus is None else child.exitstatus

    def kill(self) -> None:
        """Kill the program, as the kernel's memory killer does."""
        os.kill(self.pid, signal.SIGKILL)
        self.ended()

    def stop(self) -> None:
        """End the program, if it still runs, and hang up."""
        child, self._child = self._child, None
        if child is not None:
            if child.isalive() and child.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
            # The thread ends by the end of the terminal; closing first would take the descriptor away under it.
            if self._pump is not None:
                self._pump.join(2)
            child.close(force=True)
        if self._pump is not None:
            self._pump.join()
            self._pump = None

    def close(self) -> None:
        """End the program, and the hooks that still wait for an answer."""
        self.stop()
        for path in (self.folder / "answers").glob("*.hold"):
            path.unlink()


def scripted(folder: Path, scenario: Json, **environment: str) -> Session:
    """Return a session of the scripted agent with this scenario."""
    session = Session(
        [str(SCRIPTED), "--scenario", str(folder / "scenario.json")], folder, environment
    )
    (folder / "scenario.json").write_text(json.dumps(scenario))
    return session
