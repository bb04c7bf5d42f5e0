"""Claude Code: hooks by a settings file, its session log, its screens.

Rule: as all drivers, pure; what is known about the program's behaviour is recorded in tests/data/drivers/claude. The
hooks are the best witness, the log stands in for them, and the screen knows what neither tells: start-up dialogs,
retries, and that a dialog is gone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from oj_daemon.drivers import claude_answers, claude_hooks, claude_launch, claude_log, claude_screen
from oj_daemon.drivers.base import (
    Answer,
    Capabilities,
    Delivery,
    Dialog,
    Driver,
    Json,
    Keys,
    Launch,
    LaunchPlan,
    Pacing,
    Prompt,
    Signal,
    Step,
)
from oj_daemon.drivers.dialogs import option_to_choose
from oj_daemon.drivers.keys import DOWN, ENTER, UP, typed


class Claude:
    """The driver of Claude Code."""

    name = "claude"
    capabilities = Capabilities(
        hooks=True,
        prime=True,
        stop_gate=True,
        resume=True,
        nudge=True,
        answer_permission=True,
        answer_plan=True,
        answer_question=True,
        errors=True,
        usage=True,
        transcript=True,
        mcp=True,
        settings=True,
    )
    credential_env: tuple[str, ...] = (
        "CLAUDE_CODE_OAUTH_TOKEN",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
    )
    quiet_ms = 0
    reads_work = True

    def configured(self, patterns: Json) -> Driver:  # noqa: ARG002 - its screens are known
        """Return itself: the screens of this program are known."""
        return self

    def plan(self, launch: Launch) -> LaunchPlan:
        """Return the command line, the settings file with our hooks, and what else has to be written."""
        return claude_launch.plan_launch(launch)

    def check_resume(self, head: Sequence[str], session_id: str, workspace: str) -> str:
        """Return why the transcript with these first lines is not that session of that workspace."""
        return claude_launch.check_resume(head, session_id, workspace)

    def read_hook(self, event: str, payload: Json) -> Signal:
        """Return what a hook says."""
        return claude_hooks.read_hook(event, payload)

    def read_log(self, line: str) -> list[Signal]:
        """Return what a line of the session log says."""
        return claude_log.read_line(line)

    def read_screen(self, lines: Sequence[str]) -> Signal:
        """Return what the screen shows."""
        return claude_screen.read_screen(lines)

    def answer(self, prompt: Prompt, answer: Answer, pacing: Pacing) -> Delivery:
        """Return how an answer reaches the prompt."""
        return claude_answers.reach(prompt, answer, pacing)

    def select(self, dialog: Dialog, option: int) -> Keys:
        """Return one move towards an option, or Enter when the mark stands on it (-1: the page has no options)."""
        if option < 0 or (dialog.options and dialog.selected == option):
            return (Step(ENTER),)
        if not dialog.selected:
            return ()
        return (Step(DOWN if option > dialog.selected else UP),)

    def dismiss(self, dialog: Dialog, accept: Sequence[str]) -> int:
        """Return the option that dismisses a start-up dialog unasked; -1: Enter, it has no options; 0: leave it."""
        return option_to_choose(dialog.name, dialog.options) if dialog.name in accept else 0

    def nudge(self, text: str, pacing: Pacing) -> Keys:
        """Return the keys that send a message."""
        return typed(text, pacing)

    def stop_reply(self, reason: str) -> str:
        """Return what the stop hook prints."""
        return (
            json.dumps({"decision": "block", "reason": reason}, ensure_ascii=False)
            if reason
            else ""
        )


DRIVER: Final[Driver] = Claude()
