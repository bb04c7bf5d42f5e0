"""What the hooks of Claude Code say.

Rule: one payload in, one signal out; an unknown event or a strange payload says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from oj_daemon.drivers.base import (
    AgentError,
    AgentState,
    Channel,
    Ends,
    ErrorCategory,
    Json,
    Need,
    Option,
    Prompt,
    PromptKind,
    Question,
    Signal,
    Source,
)
from oj_daemon.drivers.fields import amend, as_text, compact
from oj_daemon.drivers.screens import error_category

ERROR_WORDS: Final = {
    "billing_error": ErrorCategory.OUT_OF_CREDITS,
    "authentication_failed": ErrorCategory.UNAUTHORIZED,
    "rate_limit": ErrorCategory.RATE_LIMITED,
    "server_error": ErrorCategory.SERVER_ERROR,
    "overloaded": ErrorCategory.SERVER_ERROR,
}
ASKING: Final = ("AskUserQuestion", "ExitPlanMode")


def read_hook(event: str, payload: Json) -> Signal:  # noqa: PLR0911 - one for each event
    """Return what a hook says."""
    tool = as_text(payload.get("tool_name"))
    tool_input = payload.get("tool_input")
    base = Signal(
        source=Source.HOOK,
        cause=f"hook:{event}",
        tool=tool,
        input=compact(tool_input) if tool else "",
        tool_use_id=as_text(payload.get("tool_use_id")),
        turn_id=as_text(payload.get("prompt_id")),
        session_id=as_text(payload.get("session_id")),
        transcript_path=as_text(payload.get("transcript_path")),
    )
    match event:
        case "SessionStart":
            return amend(
                base, need=Need.START, start_source=as_text(payload.get("source")) or "unknown"
            )
        case "UserPromptSubmit":
            return amend(
                base,
                state=AgentState.WORKING,
                cause="hook:working",
                ends=Ends.TURN,
                turn_started=True,
            )
        case "PreToolUse" if tool in ASKING:
            prompt = tool_prompt(tool, tool_input, Channel.KEYS, is_ready=False)
            return amend(base, state=AgentState.PROMPT, prompt=prompt, cause=_asks(prompt))
        case "PreToolUse":
            return amend(base, state=AgentState.WORKING, cause=f"hook:tool({tool})")
        case "PermissionRequest":
            prompt = tool_prompt(tool, tool_input, Channel.HOOK, is_ready=True)
            return amend(
                base, state=AgentState.PROMPT, prompt=prompt, cause=_asks(prompt), need=Need.ANSWER
            )
        case "PostToolUse" | "PostToolUseFailure":
            return amend(base, state=AgentState.WORKING, cause=f"hook:tool({tool})", ends=Ends.TOOL)
        case "Notification":
            return _notification(base, as_text(payload.get("notification_type")))
        case "Stop":
            return amend(
                base,
                need=Need.STOP,
                ends=Ends.TURN,
                is_second_stop=payload.get("stop_hook_active") is True,
                last_message=as_text(payload.get("last_assistant_message")) or None,
            )
        case "StopFailure":
            word = as_text(payload.get("error"))
            detail = as_text(payload.get("last_assistant_message")) or word or "unknown"
            return amend(
                base,
                state=AgentState.ERROR,
                cause="hook:error",
                ends=Ends.TURN,
                error=AgentError(category=category_of(word, detail), detail=detail),
            )
        case "SessionEnd":
            return amend(base, ends=Ends.TURN, cause=f"hook:end({as_text(payload.get('reason'))})")
        case _:
            return base


def tool_prompt(tool: str, tool_input: object, channel: Channel, *, is_ready: bool) -> Prompt:
    """Return the prompt that a tool use opens."""
    options: tuple[str, ...] = ("Yes", "No") if channel is Channel.HOOK else ()
    match tool:
        case "AskUserQuestion":
            questions = _questions(tool_input)
            labels = tuple(o.label for o in questions[0].options) if len(questions) == 1 else ()
            kind, options = PromptKind.QUESTION, labels
        case "ExitPlanMode":
            kind, questions = PromptKind.PLAN, ()
        case _:
            kind, questions = PromptKind.PERMISSION, ()
    return Prompt(
        kind=kind,
        tool=tool,
        input=compact(tool_input),
        options=options,
        questions=questions,
        channel=channel,
        ready=is_ready,
    )


def _questions(tool_input: object) -> tuple[Question, ...]:
    if not isinstance(tool_input, Mapping):
        return ()
    found = tool_input.get("questions")
    return tuple(
        Question(
            question=as_text(item.get("question")),
            header=as_text(item.get("header")),
            multi_select=item.get("multiSelect") is True,
            options=_options(item.get("options")),
        )
        for item in (found if isinstance(found, list) else [])
        if isinstance(item, Mapping)
    )


def _options(found: object) -> tuple[Option, ...]:
    return tuple(
        Option(label=as_text(item.get("label")), description=as_text(item.get("description")))
        for item in (found if isinstance(found, list) else [])
        if isinstance(item, Mapping)
    )


def _asks(prompt: Prompt) -> str:
    return f"hook:prompt({prompt.kind})"


def _notification(base: Signal, kind: str) -> Signal:
    if kind == "permission_prompt":
        prompt = Prompt(kind=PromptKind.PERMISSION, channel=Channel.KEYS, ready=False)
        return amend(base, state=AgentState.PROMPT, prompt=prompt, cause=_asks(prompt))
    if kind == "idle_prompt":
        return amend(base, state=AgentState.IDLE, cause="hook:idle")
    return base


def category_of(word: str, detail: str) -> ErrorCategory:
    """Return what kind an error is, by its name or else by its words."""
    known = ERROR_WORDS.get(word)
    return known if known is not None else error_category(f"{word} {detail}")
