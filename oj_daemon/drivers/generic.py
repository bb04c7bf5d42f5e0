"""Any other program: its screen is matched with patterns from the runbook, and a still screen means idle.

Rule: pure, like all drivers. It has no hooks and no log, so it says nothing about turns, tools, usage or sessions;
what that leaves out is in its capabilities, and asking for it is refused at load.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from oj_daemon.drivers.base import (
    AgentError,
    AgentState,
    Answer,
    Capabilities,
    Channel,
    Delivery,
    Dialog,
    Driver,
    Json,
    KeyAnswer,
    Keys,
    Launch,
    LaunchPlan,
    Pacing,
    Prompt,
    PromptKind,
    Refusal,
    Signal,
    Source,
    Step,
)
from oj_daemon.drivers.fields import amend
from oj_daemon.drivers.keys import typed
from oj_daemon.drivers.screens import error_category, last_lines, read_options
from oj_daemon.errors import Rejected

LOOK_AT: Final = 15
"""So many of the last lines that are not blank are matched: what scrolled by is history."""


class Patterns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a runbook says about the screens of a program. All patterns are searched for in single lines."""

    prompt: list[str] | str = []
    working: list[str] | str = []
    error: list[str] | str = []
    idle: list[str] | str = []
    quiet_ms: int = 3000
    """A screen without change for so long means idle; 0: only a pattern says so."""
    accept: str = "y\r"
    """What to type to agree to a prompt that offers no numbered options."""
    deny: str = "n\r"


class Generic:
    """The driver of any terminal program."""

    name = "generic"
    capabilities = Capabilities(nudge=True)
    credential_env: tuple[str, ...] = ()

    def __init__(self, patterns: Patterns) -> None:
        """Rejected when a pattern is no regular expression."""
        self._patterns = patterns
        self.quiet_ms = patterns.quiet_ms
        self.reads_work = bool(patterns.working)
        self._prompt = _compile("prompt", patterns.prompt)
        self._working = _compile("working", patterns.working)
        self._error = _compile("error", patterns.error)
        self._idle = _compile("idle", patterns.idle)
        if self._prompt or self._error:
            can = Capabilities(
                nudge=True, answer_permission=bool(self._prompt), errors=bool(self._error)
            )
            self.capabilities = can

    def configured(self, patterns: Json) -> Driver:
        """Return a driver with these patterns."""
        try:
            return Generic(msgspec.convert(dict(patterns), Patterns))
        except msgspec.ValidationError as exc:
            msg = f"the patterns of the agent are wrong: {exc}"
            raise Rejected(msg, code="invalid") from exc

    def plan(self, launch: Launch) -> LaunchPlan:
        """Return the command with the message as its last argument."""
        extra = (launch.prompt,) if launch.prompt else ()
        asked = {
            "settings": bool(launch.settings),
            "MCP servers": bool(launch.mcp),
            "the conversation to resume": bool(launch.resume),
        }
        notes = tuple(
            f"{what}: this program cannot be given that"
            for what, is_asked in asked.items()
            if is_asked
        )
        argv = launch.argv or ("bash", "-c", f'{launch.shell.rstrip()} "$@"', "_")
        return LaunchPlan(argv=(*argv, *extra), notes=notes)

    def check_resume(self, head: Sequence[str], session_id: str, workspace: str) -> str:  # noqa: ARG002
        """Return that there is nothing to resume."""
        return "this program has no sessions that could be resumed"

    def read_hook(self, event: str, payload: Json) -> Signal:  # noqa: ARG002 - it has none
        """Return nothing: it has no hooks."""
        return Signal(source=Source.HOOK, cause=f"hook:{event}")

    def read_log(self, line: str) -> list[Signal]:  # noqa: ARG002 - it has none
        """Return nothing: it has no session log."""
        return []

    def read_screen(self, lines: Sequence[str]) -> Signal:
        """Return what the patterns find: a prompt before an error before work before idleness."""
        bottom = last_lines(lines, LOOK_AT)
        base = Signal(source=Source.SCREEN)
        if (line := _search(self._prompt, bottom)) is not None:
            options, selected = read_options(bottom)
            prompt = Prompt(
                kind=PromptKind.PERMISSION,
                input=line,
                options=options or ("Yes", "No"),
                channel=Channel.KEYS,
            )
            dialog = Dialog("permission", options, selected, PromptKind.PERMISSION, line)
            return amend(
                base,
                state=AgentState.PROMPT,
                prompt=prompt,
                cause="screen:permission",
                dialog=dialog,
            )
        if (line := _search(self._error, bottom)) is not None:
            error = AgentError(category=error_category(line), detail=line)
            return amend(base, state=AgentState.ERROR, cause="screen:error", error=error)
        if _search(self._working, bottom) is not None:
            return amend(base, state=AgentState.WORKING, cause="screen:working")
        if _search(self._idle, bottom) is not None:
            return amend(base, state=AgentState.IDLE, cause="screen:idle")
        return base

    def answer(self, prompt: Prompt, answer: Answer, pacing: Pacing) -> Delivery:
        """Return the keys that answer a prompt."""
        if answer.text and answer.accept is None and answer.option is None:
            return KeyAnswer(typed(answer.text, pacing), answer.text)
        if answer.option is not None and self._has_numbers(prompt):
            if not 1 <= answer.option <= len(prompt.options):
                return Refusal(f"choose an option from 1 to {len(prompt.options)}")
            keys = typed(str(answer.option), pacing)
            return KeyAnswer(keys, prompt.options[answer.option - 1])
        accept = answer.accept if answer.option is None else answer.option == 1
        if accept is None:
            return Refusal("the answer says neither yes nor no")
        text = self._patterns.accept if accept else self._patterns.deny
        return KeyAnswer((Step(text.encode()),), "accept" if accept else "deny")

    def _has_numbers(self, prompt: Prompt) -> bool:
        return prompt.options not in ((), ("Yes", "No"))

    def select(self, dialog: Dialog, option: int) -> Keys:  # noqa: ARG002 - its dialogs are typed into
        """Return nothing: its dialogs are typed into."""
        return ()

    def dismiss(self, dialog: Dialog, accept: Sequence[str]) -> int:  # noqa: ARG002 - nothing is known
        """Return 0: nothing is known to be harmless."""
        return 0

    def nudge(self, text: str, pacing: Pacing) -> Keys:
        """Return the keys that send a message."""
        return typed(text, pacing)

    def stop_reply(self, reason: str) -> str:  # noqa: ARG002 - it has no hooks
        """Return nothing: nobody asks."""
        return ""


def _compile(name: str, patterns: list[str] | str) -> list[re.Pattern[str]]:
    try:
        return [
            re.compile(pattern)
            for pattern in ([patterns] if isinstance(patterns, str) else patterns)
        ]
    except re.error as exc:
        msg = f"the {name} pattern {exc.pattern!r} of the agent is no regular expression: {exc.msg}"
        raise Rejected(msg, code="invalid") from exc


def _search(patterns: list[re.Pattern[str]], lines: Sequence[str]) -> str | None:
    """Return the lowest line in which one of the patterns is found.

    A terminal does not tell a blank from nothing at the end of a line: `^> $` is to find an input line all the same.
    """
    for line in reversed(lines):
        if any(pattern.search(line) or pattern.search(f"{line} ") for pattern in patterns):
            return line.strip()
    return None


DRIVER: Final[Driver] = Generic(Patterns())
