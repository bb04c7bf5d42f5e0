#!/usr/bin/env -S python3 -S -E
"""A scripted agent: behaves outwardly as Claude Code does (hooks, session log, screen, keys), and follows a scenario.

Rule: standard library only, no network, no waiting for time: it waits for files, keys, hooks and signals. What it shows
and writes has the shape of the recordings; tests/support/test_agent.py and tests/claude/test_same.py hold it to that.

    claude [--scenario FILE] [--settings FILE|JSON] [--session-id ID | --resume ID] [--permission-mode MODE]
           [--dangerously-skip-permissions] [any other option of Claude Code, ignored] [PROMPT]

`tests/support/agent/claude` is this program under the name that oj takes for Claude Code. Without --scenario the file
named by $AGENT_SCENARIO is used, else agent-scenario.json in the working folder; without any it answers every prompt with
"All done: <prompt>". The session log lies in $CLAUDE_CONFIG_DIR or ~/.claude, as there. A mistake in the scenario: exit 2.

A scenario is a JSON object; all keys are optional:

    {"dialogs": ["trust", "key", "bypass"],   shown one after another before anything else
     "start": [ACTION, ...],                  after the SessionStart hooks, before the first prompt is accepted
     "turns": [{"when": "regex",              searched in the prompt; the first turn that fits and is not used up is played
                "times": 1,                   how many prompts it serves (those before a --resume count too)
                "resumed": true,              only in a process started with (or without) --resume
                "do": [ACTION, ...]}],
     "otherwise": [ACTION, ...],              default [{"say": "All done: {prompt}"}]
     "release": "2.1.330",                    the dialogs of that release: a permission has four options ("3" is Yes and
                                              auto mode), start dialogs no numbers and No first, and a plan is accepted by a
                                              hook only with updatedInput; default 2.1.197, the one of the recordings
     "ignore": ["HUP", "TERM"],               signals ignored from the beginning
     "keys": "FILE",                          every byte read from the terminal is appended there
     "notification": "FILE",                  the Notification hook of a dialog fires when this exists (or after so many
                                              seconds; null = never; default 0.5, where the real program takes 6)
     "usage": {"input_tokens": 1, ...}}       what every answer costs

What a stop hook answers comes as the prompt "Stop hook feedback:\\n<reason>", so turns can match it. In all texts stand
{prompt} {result} (of the last tool) {answer} (what was decided last: the message of a refusal, or the answers as JSON)
{session} {cwd} {scenario} (the scenario's folder) {pid}. Paths are relative to the working folder.

An ACTION is an object; its first key names it.

  content       {"say": "text"}   {"think": "text"}
  tools         {"bash": "command", "ask": true}          really run; ask = a permission dialog comes first
                {"write": "path", "text": "content", "ask": true}   really written
                {"commit": "message"}                     git add -A, git commit
                {"tool": "Name", "input": {...}, "response": any, "result": "text", "ask": true}   any other, played
                options of all: "options": 2 or 3 (of the dialog), "refused": [ACTION, ...] when a hook refuses
                (default: it goes on); a refusal by key ends the turn, as there
  prompts       {"ask": [{"question", "header", "options": [{"label", "description"}], "multiSelect"}]}
                {"plan": "markdown", "refused": [ACTION, ...]}
  end of turn   {"error": "rate_limit", "message": "text"}   StopFailure, no Stop; kinds seen: billing_error, rate_limit,
                authentication_failed, server_error, model_not_found, invalid_request
                {"silent": true}                          the turn ends without any hook, as after a refusal by key
  waiting       {"await": "FILE"}       until it exists; keys work meanwhile, Escape interrupts the turn
                {"retrying": "FILE", "seconds": 7, "attempt": 5}   the retry notice stands on the screen until it exists
  marks         {"touch": "FILE"}       {"env": "FILE"} (environment, arguments, pid as JSON)
                {"run": "command", "to": "FILE"}          in silence: no tool, no hook, no log; output to FILE
  raw           {"hook": "Event", "payload": {...}, "subject": "matched by matcher"}
                {"notify": "idle_prompt", "message": "text"}
                {"log": {...}} one entry of the chain     {"log_raw": "text"} as it is     {"truncate": true} the log
                {"print": "text"} to the terminal as it is     {"screen": "FILE"} a recorded screen, painted
                {"query": "\\u001b[c", "to": "FILE", "seconds": 5}   asks the terminal, writes its answer down
  session       {"clear": true}   {"compact": true}   (typed /clear, /compact and /exit do the same)
  trouble       {"exit": 3}   {"signal": "SEGV"}   {"signal": "KILL"} (as out of memory)   {"ignore": ["HUP", "TERM"]}
                {"child": {"pid": "FILE", "ignore": ["HUP", "TERM"], "session": true, "terminal": true,
                           "until": "FILE", "seconds": 300}}   forked twice; own session; keeps the terminal open
                {"flood": {"megabytes": 10, "rate": 10, "kind": "text|binary|escapes|line"}}
                {"close": "FILE"}       closes the terminal and lives on until the file exists
  grouping      {"repeat": 3, "do": [ACTION, ...]}
"""

# pathlib would be a fifth of the start, and tests start this by the dozen.
# ruff: noqa: PTH100, PTH103, PTH105, PTH109, PTH110, PTH111, PTH118, PTH120, PTH123

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)) + "/../../..")

from tests.support.agent import dialogs, trouble
from tests.support.agent.hooks import Hooks, Result, Running, readable, wait
from tests.support.agent.journal import MODEL, VERSION, Journal, new_id, path_of
from tests.support.agent.terminal import HangUp, Key, Terminal

Json = dict[str, Any]
Actions = list[Json]

WITH_VALUE = {
    "--settings",
    "--session-id",
    "--resume",
    "--scenario",
    "--permission-mode",
    "--model",
    "--mcp-config",
    "--add-dir",
    "--append-system-prompt",
    "--system-prompt",
    "--allowedTools",
    "--allowed-tools",
    "--disallowedTools",
    "--disallowed-tools",
    "--agents",
    "--agent",
    "--effort",
    "--fallback-model",
    "--setting-sources",
    "--plugin-dir",
    "--name",
}
"""Options of Claude Code that are followed by a value."""

KINDS = {
    "say", "think", "bash", "write", "commit", "tool", "ask", "plan", "error", "silent", "await", "retrying", "touch",
    "env", "run", "hook", "notify", "log", "log_raw", "truncate", "print", "screen", "query", "clear", "compact", "exit",
    "signal", "ignore", "child", "flood", "close", "repeat",
}  # fmt: skip
TOOLS = {"bash", "write", "commit", "tool", "ask", "plan"}
NESTED = ("do", "refused")
SCENARIO_KEYS = {
    "dialogs",
    "start",
    "turns",
    "otherwise",
    "ignore",
    "keys",
    "notification",
    "usage",
    "release",
}
TURN_KEYS = {"when", "times", "resumed", "do"}
WORKING = "esc to interrupt · ← for agents"
READY = "? for shortcuts · ← for agents"
REJECTED = (
    "The user doesn't want to proceed with this tool use. The tool use was rejected (eg. if it was a file edit, the "
    "new_string was NOT written to the file). STOP what you are doing and wait for the user to tell you how to proceed."
)


class Ended(Exception):
    """The program is to end with this code."""

    def __init__(self, code: int, reason: str = "other") -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason


class TurnOver(Exception):
    """The turn ends here, without Stop."""


class Interrupted(TurnOver):
    """A person pressed Escape."""


class Failed(TurnOver):
    """The turn ended by an API error."""

    def __init__(self, error: str, message: str, status: int) -> None:
        super().__init__(error)
        self.error = error
        self.message = message
        self.status = status


class Options:
    """The command line."""

    def __init__(self, arguments: list[str]) -> None:
        self.values: dict[str, str] = {}
        self.flags: set[str] = set()
        self.words: list[str] = []
        rest = list(arguments)
        while rest:
            word = rest.pop(0)
            name, equals, value = word.partition("=")
            name = "--resume" if name == "-r" else name
            if word == "--":
                self.words += rest
                break
            if name in WITH_VALUE:
                self.values[name] = value if equals or not rest else rest.pop(0)
            elif word.startswith("-") and word != "-":
                self.flags.add(word)
            else:
                self.words.append(word)

    @property
    def mode(self) -> str:
        """The permission mode."""
        skip = "--dangerously-skip-permissions" in self.flags
        return "bypassPermissions" if skip else self.values.get("--permission-mode", "default")


class Agent:
    """One process of the agent."""

    def __init__(self, options: Options, scenario: Json, folder: str) -> None:
        self.options = options
        self.scenario = scenario
        self.folder = folder
        self.cwd = os.getcwd()
        self.config = os.environ.get("CLAUDE_CONFIG_DIR") or os.path.expanduser("~/.claude")
        self.mode = options.mode
        self.release = str(scenario.get("release", VERSION))
        self.newer = [int(part) for part in self.release.split(".")] > [2, 1, 197]
        self.resumed = "--resume" in options.values
        named = options.values.get("--resume") or options.values.get("--session-id")
        self.session: str = named or new_id()
        self.hooks = Hooks(self._settings())
        self.terminal = Terminal(scenario.get("keys"))
        self.journal = self._journal()
        self.prompt = self.result = self.answer = self.last = ""
        self.prompt_id = ""
        self.message_id: str | None = None
        self.stop_reason = "end_turn"
        self.typed = ""
        self.queue: list[tuple[str, str]] = []
        self.spinner: str | None = None
        self.working = False
        self.escaped = False
        self.pressed_c = False
        self.dialog: dialogs.Dialog | dialogs.Form | None = None
        self.choice: dialogs.Choice | None = None
        self.served: dict[int, int] = {}

    # ------------------------------------------------------------------------------------------------ from start to end

    def main(self) -> int:
        """Live until told to end; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGWINCH, lambda *_: None)
        trouble.ignore(list(self.scenario.get("ignore", [])))
        self.terminal.open()
        try:
            self._begin()
            while True:
                self._paint()
                if self.queue:
                    self._submitted(*self.queue.pop(0))
                else:
                    self.pump([], 3600)
        except (Ended, HangUp) as end:
            code, reason = (end.code, end.reason) if isinstance(end, Ended) else (129, "other")
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            self._last_hook(reason)
            self.terminal.close()
            return code

    def _begin(self) -> None:
        if self.resumed and not os.path.exists(self.journal.path):
            self.terminal.say(f"No conversation found with session ID: {self.session}")
            raise Ended(1)
        for name in self.scenario.get("dialogs", []):
            key = os.environ.get("ANTHROPIC_API_KEY", "")
            dialog = dialogs.start_dialog(name, self.cwd, key, newer=self.newer)
            self._ask(dialog, None)
            if self.choice and dialog.chosen(self.choice) in ("", "No, exit"):
                raise Ended(1)
        self.terminal.say(*dialogs.banner(self.terminal.columns, self.cwd, self.release))
        source = "startup"
        if self.resumed:
            source = "resume"
            self._replay(self.journal.resume())
        else:
            self.journal.begin(self.mode)
        self._session_start(source)
        self._play(self.scenario.get("start", []))
        if self.options.words:
            self.queue.append((" ".join(self.options.words), "typed"))

    def _settings(self) -> list[Json]:
        paths = [
            os.path.join(self.config, "settings.json"),
            os.path.join(self.cwd, ".claude", "settings.json"),
            os.path.join(self.cwd, ".claude", "settings.local.json"),
        ]
        found = []
        for path in paths:
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    found.append(json.load(file))
        given = self.options.values.get("--settings")
        if given and given.lstrip().startswith("{"):
            found.append(json.loads(given))
        elif given:
            with open(given, encoding="utf-8") as file:
                found.append(json.load(file))
        return found

    def _journal(self) -> Journal:
        journal = Journal(path_of(self.config, self.cwd, self.session), self.cwd, self.session)
        journal.usage.update(self.scenario.get("usage", {}))
        return journal

    def _replay(self, entries: list[Json]) -> None:
        """Show the conversation so far, and count what the turns have served."""
        for entry in entries:
            message = entry.get("message", {})
            content = message.get("content")
            if entry.get("type") == "user" and isinstance(content, str):
                if content.startswith("<") or entry.get("isCompactSummary"):
                    continue
                self._turn_for(content)
                if not entry.get("isMeta"):
                    self.terminal.say(f"{dialogs.MARK} {content}", "")
            elif entry.get("type") == "assistant":
                for block in content or []:
                    if block.get("type") == "text":
                        self.last = block["text"]
                        self.terminal.say(f"● {self.last}", "")

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        raise Ended(128 + number)

    def _last_hook(self, reason: str) -> None:
        try:
            payload = self._payload("SessionEnd", {"reason": reason}, mode=False)
            running = self.hooks.start("SessionEnd", reason, payload, self.cwd)
            wait(running, lambda fds, seconds: _discard(readable(fds, seconds)))
        except (Ended, HangUp, OSError):
            return

    # ------------------------------------------------------------------------------------------------ hooks

    def _payload(
        self, event: str, fields: Json, *, mode: bool = True, effort: bool = False
    ) -> Json:
        base: Json = {
            "session_id": self.session,
            "transcript_path": self.journal.path,
            "cwd": self.cwd,
        }
        if self.prompt_id:
            base["prompt_id"] = self.prompt_id
        if mode:
            base["permission_mode"] = self.mode
        if effort:
            base["effort"] = {"level": "high"}
        return {**base, "hook_event_name": event, **fields}

    def _start_hooks(
        self, event: str, subject: str, fields: Json, *, mode: bool = True, effort: bool = False
    ) -> Running:
        payload = self._payload(event, fields, mode=mode, effort=effort)
        return self.hooks.start(event, subject, payload, self.cwd)

    def _fire(
        self, event: str, subject: str, fields: Json, *, mode: bool = True, effort: bool = False
    ) -> list[Result]:
        return wait(self._start_hooks(event, subject, fields, mode=mode, effort=effort), self.pump)

    def _session_start(self, source: str) -> None:
        fields = {"source": source}
        if source in ("startup", "compact"):
            fields["model"] = MODEL + "[1m]"
        for result in self._fire("SessionStart", source, fields, mode=False):
            if result.context:
                said = {
                    "stdout": result.stdout,
                    "stderr": result.stderr,
                    "exitCode": result.code,
                    "command": result.command,
                    "durationMs": result.ms,
                }
                self.journal.hook_success("SessionStart", f"SessionStart:{source}", said)

    # ------------------------------------------------------------------------------------------------ keys and screen

    def pump(self, descriptors: list[int], seconds: float) -> None:
        """Wait for one of the descriptors or for keys, and let the keys work."""
        stdin = [0] if self.terminal.is_tty else []
        try:
            ready = readable([*stdin, *descriptors], seconds)
        except InterruptedError:
            ready = []
        if 0 in ready and stdin:
            for key in self.terminal.read():
                self._key(key)
            self._paint()
        if not stdin and not descriptors and not self.queue and seconds >= 3600:
            raise Ended(0, "prompt_input_exit")

    def _key(self, key: Key) -> None:  # noqa: C901, PLR0912  # one case for each key  # one case for each key
        pressed_c, self.pressed_c = self.pressed_c, key.name == "ctrl-c"
        if self.dialog is not None:
            if key.name == "ctrl-c":
                key = Key("escape")
            self.choice = self.choice or self.dialog.key(key)
            return
        match key.name:
            case "text" | "paste":
                self.typed += key.text
            case "backspace":
                self.typed = self.typed[:-1]
            case "ctrl-u":
                self.typed = ""
            case "enter":
                text, self.typed = self.typed.strip(), ""
                if text:
                    if self.working:
                        self.journal.note("queue-operation", operation="enqueue", content=text)
                    self.queue.append((text, "queued" if self.working else "typed"))
            case "escape":
                self.escaped = self.working
            case "ctrl-c" if self.working:
                self.escaped = True
            case "ctrl-c" if pressed_c:
                raise Ended(0, "prompt_input_exit")
            case "ctrl-c":
                self.typed = ""
            case "ctrl-d" if not self.typed and not self.working:
                raise Ended(0, "prompt_input_exit")
            case _:
                pass

    def _paint(self) -> None:
        columns = self.terminal.columns
        if self.dialog is not None:
            self.terminal.paint(["", *self.dialog.lines(columns)])
            return
        foot = WORKING if self.working else READY
        if self.pressed_c and not self.working:
            foot = "Press Ctrl-C again to exit"
        elif self.mode == "bypassPermissions":
            foot = "⏵⏵ bypass permissions on (shift+tab to cycle) · ← for agents"
        above = self.spinner or "" if self.working else ""
        self.terminal.paint(dialogs.input_box(self.typed, columns, foot, above))

    def _say(self, *lines: str) -> None:
        self._paint()
        self.terminal.say(*lines, "")

    def _until(self, path: str, spinner: str | None) -> None:
        """Wait for a file; keys work, Escape interrupts."""
        before, self.spinner = self.spinner, spinner
        self._paint()
        while not os.path.exists(path):
            self.pump([], 0.03)
            self._check()
        self.spinner = before
        self._paint()

    def _check(self) -> None:
        if self.escaped:
            self.escaped = False
            raise Interrupted

    def _ask(
        self, dialog: dialogs.Dialog | dialogs.Form, running: Running | None, note: str = ""
    ) -> Result | None:
        """Show a dialog until a person or a hook has decided; returns the hook's result if it was the hook."""
        self.dialog, self.choice = dialog, None
        when = self.scenario.get("notification", 0.5) if note else None
        begun = time.monotonic()
        self._paint()
        try:
            while not self._decided():
                if running is not None:
                    for result in running.finished():
                        if self._decides(result, dialog):
                            return result
                left = 3599.0
                if isinstance(when, str):
                    left = 0.0 if os.path.exists(when) else 0.03
                elif when is not None:
                    left = max(0.0, begun + when - time.monotonic())
                if not left:
                    when = None
                    self._notify("permission_prompt", note)
                    continue
                if running is not None and not running.watched and running.pending:
                    left = min(left, 0.03)
                self.pump(running.watched if running else [], left)
        finally:
            self.dialog = None
            self._paint()
        return None

    def _decides(self, result: Result, dialog: dialogs.Dialog | dialogs.Form) -> bool:
        decision = result.answer.get("hookSpecificOutput", {}).get("decision", {})
        if self.newer and dialog.kind == "plan" and decision.get("behavior") == "allow":
            return "updatedInput" in decision
        return bool(decision)

    def _decided(self) -> bool:
        return self.choice is not None

    def _notify(self, kind: str, message: str) -> None:
        self._fire(
            "Notification", kind, {"message": message, "notification_type": kind}, mode=False
        )

    # ------------------------------------------------------------------------------------------------ turns

    def _turn_for(self, prompt: str) -> Actions:
        for index, turn in enumerate(self.scenario.get("turns", [])):
            if not re.search(turn.get("when", ""), prompt):
                continue
            if turn.get("resumed") not in (None, self.resumed):
                continue
            used = self.served.get(index, 0)
            if "times" in turn and used >= turn["times"]:
                continue
            self.served[index] = used + 1
            return list(turn["do"])
        return list(self.scenario.get("otherwise", [{"say": "All done: {prompt}"}]))

    def _submitted(self, text: str, source: str) -> None:
        if source == "queued":
            self.journal.note("queue-operation", operation="dequeue")
        match text:
            case "/exit" | "/quit":
                raise Ended(0, "prompt_input_exit")
            case "/clear":
                self._do_clear({})
            case "/compact":
                self._do_compact({})
            case _:
                self._turn(text, source)

    def _turn(self, prompt: str, source: str) -> None:
        begun = time.monotonic()
        self.prompt, self.prompt_id, self.message_id = prompt, new_id(), None
        self.working, self.escaped, self.spinner = True, False, "✻ Working…"
        self._say(f"{dialogs.MARK} {prompt}")
        try:
            for result in self._fire("UserPromptSubmit", "", {"prompt": prompt}):
                if result.blocked is not None:
                    self._say(f"  ⎿  UserPromptSubmit operation blocked by hook: {result.blocked}")
                    return
            self.journal.prompt(prompt, self.prompt_id, self.mode, source)
            self.last = ""
            self._play(self._turn_for(prompt))
            self._stop(begun)
        except Failed as failed:
            self._failed(failed)
        except Interrupted:
            self.journal.synthetic("")
            text = [{"type": "text", "text": "[Request interrupted by user]"}]
            self.journal.user(text, self.prompt_id)
            self._say("  ⎿  Interrupted · What should Claude do instead?")
        except TurnOver:
            pass
        finally:
            self.working, self.spinner = False, None
        self._paint()

    def _stop(self, begun: float) -> None:
        active = False
        while True:
            self._check()
            fields = {
                "stop_hook_active": active,
                "last_assistant_message": self.last,
                "background_tasks": [],
                "session_crons": [],
            }
            results = self._fire("Stop", "", fields, effort=True)
            reasons = [result.blocked for result in results if result.blocked is not None]
            self._summary(results, reasons)
            if not reasons:
                break
            for reason in reasons:
                self._say("● Ran 1 stop hook (ctrl+o to expand)", f"  ⎿  Stop hook error: {reason}")
                self.prompt = f"Stop hook feedback:\n{reason}"
                self.journal.feedback(self.prompt, self.prompt_id)
            active, self.message_id = True, None
            self._play(self._turn_for(self.prompt))
        seconds = time.monotonic() - begun
        ended = {"durationMs": int(seconds * 1000), "messageCount": 8}
        self.journal.system("turn_duration", ended, {"isMeta": False})
        self._say(f"✻ Worked for {seconds:.0f}s")

    def _summary(self, results: list[Result], reasons: list[str]) -> None:
        if not results:
            return
        fields = {
            "hookCount": len(results),
            "hookInfos": [{"command": r.command, "durationMs": r.ms} for r in results],
            "hookErrors": reasons,
            "hookAdditionalContext": [],
            "preventedContinuation": False,
            "stopReason": "",
            "hasOutput": bool(reasons),
            "level": "suggestion",
        }
        self.journal.system("stop_hook_summary", fields, {"toolUseID": new_id()})

    def _failed(self, failed: Failed) -> None:
        after: Json = {"requestId": "req_test", "error": failed.error, "isApiErrorMessage": True}
        if failed.status:
            after["apiErrorStatus"] = failed.status
        self.journal.synthetic(failed.message, after)
        self._say(f"  ⎿  {failed.message}")
        fields = {"error": failed.error, "last_assistant_message": failed.message}
        self._fire("StopFailure", failed.error, fields, mode=False, effort=True)

    def _play(self, actions: Actions) -> None:
        for index, action in enumerate(actions):
            kind = next(iter(action))
            more = (next(iter(later)) for later in actions[index:])
            after = next((later for later in more if later not in ("say", "think")), "")
            self.stop_reason = "tool_use" if after in TOOLS else "end_turn"
            getattr(self, f"_do_{kind}")(action)
            if self.working:
                self.pump([], 0)
                self._check()

    def fill(self, value: Any) -> Any:  # JSON in, the same JSON out
        """Put what is known into the texts of an action."""
        if isinstance(value, str):
            for name in ("prompt", "result", "answer", "session", "cwd"):
                text = str(getattr(self, name))
                value = value.replace(
                    "{" + name + "}", text.partition("\n")[0] if name == "prompt" else text
                )
            return value.replace("{scenario}", self.folder).replace("{pid}", str(os.getpid()))
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        return value

    # ------------------------------------------------------------------------------------------------ content and tools

    def _block(self, block: Json) -> str:
        self.message_id = self.message_id or "msg_" + new_id().replace("-", "")[:24]
        return self.journal.assistant(block, self.message_id, self.stop_reason)

    def _do_say(self, action: Json) -> None:
        self.last = self.fill(action["say"])
        self._block({"type": "text", "text": self.last})
        self._say(f"● {self.last}")

    def _do_think(self, action: Json) -> None:
        thought = self.fill(action["think"])
        self._block({"type": "thinking", "thinking": thought, "signature": "c2ln"})

    def _do_bash(self, action: Json) -> None:
        given = {
            "command": self.fill(action["bash"]),
            "description": self.fill(action.get("description", "run a command")),
        }
        self._tool(action, "Bash", given)

    def _do_write(self, action: Json) -> None:
        path = os.path.join(self.cwd, self.fill(action["write"]))
        self._tool(action, "Write", {"file_path": path, "content": self.fill(action["text"])})

    def _do_commit(self, action: Json) -> None:
        message = self.fill(action["commit"]).replace("'", "'\\''")
        command = f"git add -A && git commit -q -m '{message}'"
        self._tool(action, "Bash", {"command": command, "description": "commit"})

    def _do_tool(self, action: Json) -> None:
        self._tool(action, self.fill(action["tool"]), self.fill(action.get("input", {})))

    def _do_ask(self, action: Json) -> None:
        self._tool(action, "AskUserQuestion", {"questions": self.fill(action["ask"])})

    def _do_plan(self, action: Json) -> None:
        self._tool(action, "ExitPlanMode", {"plan": self.fill(action["plan"])})

    def _tool(self, action: Json, name: str, given: Json) -> None:
        use = {
            "type": "tool_use",
            "id": "toolu_" + new_id().replace("-", "")[:24],
            "name": name,
            "input": given,
        }
        uid = self._block(use)
        self.message_id = None
        what = str(given.get("command") or given.get("file_path") or "")
        self._say(f"● {name}({what})")
        fields = {"tool_name": name, "tool_input": given}
        known = {**fields, "tool_use_id": use["id"]}
        for result in self._fire("PreToolUse", name, known, effort=True):
            verdict = result.answer.get("hookSpecificOutput", {})
            denied = verdict.get("permissionDecision") == "deny"
            if result.blocked is not None or denied:
                reason = result.blocked or str(verdict.get("permissionDecisionReason", ""))
                self._refuse(action, use, uid, reason)
                return
        asks = name in ("AskUserQuestion", "ExitPlanMode")
        if asks or (action.get("ask") and self.mode not in ("bypassPermissions", "auto")):
            allowed = self._permission(action, use, uid, fields)
            if allowed is None:
                return
            given = allowed
        begun = time.monotonic()
        response, content = self._carry_out(action, name, given)
        self.result = content
        self.journal.result(use, content, self.prompt_id, uid, response)
        if not isinstance(response, str):
            done = {"tool_name": name, "tool_input": given, "tool_response": response}
            ms = int((time.monotonic() - begun) * 1000)
            self._fire(
                "PostToolUse",
                name,
                {**done, "tool_use_id": use["id"], "duration_ms": ms},
                effort=True,
            )

    def _permission(self, action: Json, use: Json, uid: str, fields: Json) -> Json | None:
        """Ask a person or a hook; returns the input to go on with, None when refused."""
        name, given = use["name"], use["input"]
        dialog: dialogs.Dialog | dialogs.Form
        note = "Claude needs your permission"
        if name == "AskUserQuestion":
            dialog = dialogs.Form(given["questions"])
        elif name == "ExitPlanMode":
            dialog = dialogs.plan_dialog(given["plan"])
            note = "Claude Code needs your approval for the plan"
        else:
            options = int(action.get("options", 4 if self.newer else 3))
            dialog = dialogs.permission_dialog(name, given, self.cwd, options)
            fields = {**fields, "permission_suggestions": _suggestions(name, given)}
        running = self._start_hooks("PermissionRequest", name, fields, effort=True)
        result = self._ask(dialog, running, note)
        if result is not None:
            decision = result.answer["hookSpecificOutput"]["decision"]
            self.journal.permission(decision["behavior"], use["id"])
            if decision["behavior"] != "allow":
                self._refuse(action, use, uid, str(decision.get("message", "")))
                return None
            given = decision.get("updatedInput", given)
            self.answer = json.dumps(given.get("answers", {}))
        else:
            assert self.choice is not None
            chosen = dialog.chosen(self.choice)
            if chosen in ("", "No"):
                self.journal.result(use, REJECTED, self.prompt_id, uid, "User rejected tool use")
                text = "[Request interrupted by user for tool use]"
                self.journal.user([{"type": "text", "text": text}], self.prompt_id)
                self._say("  ⎿  Interrupted · What should Claude do instead?")
                raise TurnOver
            if "auto mode" in chosen:
                self.mode = "auto"
            if isinstance(dialog, dialogs.Form):
                given = {**given, "answers": self.choice.answers}
                self.answer = json.dumps(self.choice.answers)
        if name == "ExitPlanMode" and self.mode == "plan":
            self.mode = "default"
        return dict(given)

    def _refuse(self, action: Json, use: Json, uid: str, message: str) -> None:
        self.answer = self.result = message
        self.journal.result(use, message, self.prompt_id, uid, f"Error: {message}")
        self._say(f"  ⎿  Error: {message}")
        self._play(action.get("refused", []))

    def _carry_out(self, action: Json, name: str, given: Json) -> tuple[object, str]:
        """Do the tool's work; returns the response (a text if it failed) and what the model is told."""
        kind = next(iter(action))
        if kind in ("bash", "commit"):
            code, out, err = self._shell(given["command"])
            if code:
                told = f"Exit code {code}" + (f"\n{out}{err}" if out or err else "")
                return f"Error: {told}", told
            response = {
                "stdout": out.rstrip("\n"),
                "stderr": err.rstrip("\n"),
                "interrupted": False,
                "isImage": False,
                "noOutputExpected": not out,
            }
            return response, out.rstrip("\n") or "(Bash completed with no output)"
        if kind == "write":
            path = given["file_path"]
            existed = os.path.exists(path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(given["content"])
            response = {
                "type": "update" if existed else "create",
                "filePath": path,
                "content": given["content"],
                "structuredPatch": [],
                "originalFile": None,
                "userModified": False,
            }
            return response, f"File created successfully at: {path}"
        if name == "AskUserQuestion":
            answers = given.get("answers", {})
            told = ", ".join(f'"{question}"="{answer}"' for question, answer in answers.items())
            response = {"questions": given["questions"], "answers": answers}
            return response, f"Your questions have been answered: {told}."
        if name == "ExitPlanMode":
            response = {"plan": given["plan"], "isAgent": False, "filePath": "plan.md"}
            return response, "User has approved your plan. You can now start coding."
        response = self.fill(action.get("response", {"ok": True}))
        return response, self.fill(action.get("result", "ok"))

    def _shell(self, command: str) -> tuple[int, str, str]:
        process = subprocess.Popen(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    # ------------------------------------------------------------------------------------------------ other actions

    def _do_error(self, action: Json) -> None:
        error = str(action["error"])
        status = {
            "billing_error": 400,
            "invalid_request": 400,
            "authentication_failed": 401,
            "model_not_found": 404,
            "rate_limit": 429,
            "server_error": 529,
        }
        message = action.get("message", f"API Error: {error}")
        raise Failed(error, self.fill(message), int(action.get("status", status.get(error, 0))))

    def _do_silent(self, _action: Json) -> None:
        raise TurnOver

    def _do_await(self, action: Json) -> None:
        self._until(self.fill(action["await"]), self.spinner)

    def _do_retrying(self, action: Json) -> None:
        seconds, attempt = action.get("seconds", 7), action.get("attempt", 5)
        notice = f"✻ API error · Retrying in {seconds}s · attempt {attempt}/10"
        self._until(self.fill(action["retrying"]), notice)

    def _do_touch(self, action: Json) -> None:
        _put(self.fill(action["touch"]), "")

    def _do_env(self, action: Json) -> None:
        known = {"env": dict(os.environ), "argv": sys.argv, "pid": os.getpid(), "cwd": self.cwd}
        _put(self.fill(action["env"]), json.dumps(known))

    def _do_run(self, action: Json) -> None:
        code, out, err = self._shell(self.fill(action["run"]))
        self.result = f"{out}{err}"
        if "to" in action:
            _put(self.fill(action["to"]), f"{out}{err}exit {code}\n")

    def _do_hook(self, action: Json) -> None:
        payload = self.fill(action.get("payload", {}))
        results = self._fire(action["hook"], str(action.get("subject", "")), payload, mode=False)
        self.result = "".join(result.stdout for result in results)

    def _do_notify(self, action: Json) -> None:
        self._notify(action["notify"], action.get("message", "Claude is waiting for your input"))

    def _do_log(self, action: Json) -> None:
        self.journal.chained(self.fill(action["log"]))

    def _do_log_raw(self, action: Json) -> None:
        self.journal.raw(self.fill(action["log_raw"]).encode("utf-8", "surrogateescape"))

    def _do_truncate(self, _action: Json) -> None:
        self.journal.truncate()

    def _do_print(self, action: Json) -> None:
        self.terminal.write(self.fill(action["print"]).encode("utf-8", "surrogateescape"))

    def _do_screen(self, action: Json) -> None:
        with open(self.fill(action["screen"]), encoding="utf-8") as file:
            rows = file.read().rstrip("\n").split("\n")
        self.terminal.write(("\x1b[2J\x1b[H" + "\r\n".join(rows)).encode())

    def _do_query(self, action: Json) -> None:
        self.terminal.answers = b""
        self._do_print({"print": action["query"]})
        deadline = time.monotonic() + float(action.get("seconds", 5))
        while not self.terminal.answers and time.monotonic() < deadline:
            self.pump([], 0.05)
        self.result = self.terminal.answers.decode("latin-1")
        if "to" in action:
            _put(self.fill(action["to"]), self.result)

    def _do_clear(self, _action: Json) -> None:
        self._fire("SessionEnd", "clear", {"reason": "clear"}, mode=False)
        self.session, self.last = new_id(), ""
        self.journal = self._journal()
        self.terminal.write(b"\x1b[2J\x1b[3J\x1b[H")
        self._session_start("clear")
        self.journal.command("clear", self.prompt_id or new_id())
        self._paint()

    def _do_compact(self, _action: Json) -> None:
        self._fire("PreCompact", "manual", {"trigger": "manual"}, mode=False)
        self.journal.compact(self.prompt_id or new_id(), self.last or "Nothing happened.")
        self.journal.command("compact", self.prompt_id or new_id())
        self._session_start("compact")
        self._say("  ⎿  Compacted (ctrl+o to see full summary)")

    def _do_exit(self, action: Json) -> None:
        raise Ended(int(action["exit"]))

    def _do_signal(self, action: Json) -> None:
        trouble.die(action["signal"])

    def _do_ignore(self, action: Json) -> None:
        trouble.ignore(action["ignore"])

    def _do_child(self, action: Json) -> None:
        how = self.fill(action["child"])
        trouble.leave_child(how)
        while not os.path.exists(how["pid"]):
            self.pump([], 0.02)

    def _do_flood(self, action: Json) -> None:
        how = action["flood"]
        pieces = trouble.flood(how)
        paced = trouble.paced(pieces, float(how.get("rate", 0)), lambda s: self.pump([], s))
        for piece in paced:
            self.terminal.write(piece)
            self._check()

    def _do_close(self, action: Json) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        self.terminal.is_tty = False
        self._until(self.fill(action["close"]), None)

    def _do_repeat(self, action: Json) -> None:
        for _ in range(int(action["repeat"])):
            self._play(action["do"])


def _discard(_ready: list[int]) -> None:
    """For who waits without reading."""


def _put(path: str, text: str) -> None:
    """Write a file that is complete when it is there."""
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH113 - pathlib is slow to load
        raise ValueError(f"{path} is no regular file, and is not to become one")
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.replace(path + ".new", path)


def _suggestions(name: str, given: Json) -> list[Json]:
    if name != "Bash":
        return [{"type": "setMode", "mode": "acceptEdits", "destination": "session"}]
    parts = [part.strip() for part in re.split(r"&&|;", given["command"]) if part.strip()]
    rules = [{"toolName": "Bash", "ruleContent": part} for part in parts]
    return [
        {
            "type": "addRules",
            "rules": rules,
            "behavior": "allow",
            "destination": "localSettings",
        }
    ]


def check(scenario: Json) -> list[str]:
    """Return what is wrong with a scenario."""
    wrong = [f"unknown key {key!r}" for key in scenario if key not in SCENARIO_KEYS]
    for index, turn in enumerate(scenario.get("turns", []), 1):
        wrong += [f"turn {index}: unknown key {key!r}" for key in turn if key not in TURN_KEYS]
        if "do" not in turn:
            wrong.append(f"turn {index}: no 'do'")
        wrong += [f"turn {index}: {text}" for text in check_actions(turn.get("do", []))]
    for name in ("start", "otherwise"):
        wrong += [f"{name}: {text}" for text in check_actions(scenario.get(name, []))]
    return wrong


def check_actions(actions: Actions) -> list[str]:
    """Return which actions are none."""
    wrong = []
    for action in actions:
        kind = next(iter(action), "")
        if kind not in KINDS:
            wrong.append(f"no action {kind!r}")
        for name in NESTED:
            wrong += check_actions(action.get(name, []))
    return wrong


def load(options: Options) -> tuple[Json, str]:
    """Read the scenario; returns it and its folder."""
    path = options.values.get("--scenario") or os.environ.get("AGENT_SCENARIO")
    if not path:
        path = "agent-scenario.json"
        if not os.path.exists(path):
            return {}, os.getcwd()
    try:
        with open(path, encoding="utf-8") as file:
            scenario: Json = json.load(file)
        wrong = check(scenario)
    except (OSError, ValueError) as error:
        scenario, wrong = {}, [str(error)]
    if wrong:
        sys.stderr.write(f"Error: scenario {path}: {'; '.join(wrong)}\n")
        sys.exit(2)
    return scenario, os.path.dirname(os.path.abspath(path))


def main() -> None:
    """Run the agent."""
    options = Options(sys.argv[1:])
    if "--version" in options.flags or "-v" in options.flags:
        sys.stdout.write(f"{VERSION} (Claude Code)\n")
        return
    sys.exit(Agent(options, *load(options)).main())


if __name__ == "__main__":
    main()
