"""What the session log of Claude Code says.

Rule: one line in, at most one signal out; lines of helpers that the agent started count for usage only.
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
    Signal,
    Source,
    Tier,
    Usage,
    UsageEntry,
)
from oj_daemon.drivers.claude_hooks import ASKING, category_of, tool_prompt
from oj_daemon.drivers.fields import amend, as_number, as_text, compact, load
from oj_daemon.drivers.screens import error_category

INTERRUPTED: Final = "[Request interrupted by user"
REJECTED: Final = "User rejected tool use"
ECHOES: Final = ("<command-name>", "<command-message>", "<local-command-", "<bash-")


def read_line(line: str) -> list[Signal]:
    """Return what a line of the session log says."""
    entry = load(line)
    if not entry:
        return []
    usage = _usage(entry)
    # What a helper of the agent does is not its own state.
    found = None if entry.get("isSidechain") is True else _log_entry(entry)
    if usage is None:
        return [] if found is None else [found]
    return [amend(found or Signal(source=Source.LOG, cause="log:usage"), usage=usage)]


def _log_entry(entry: Json) -> Signal | None:
    match entry.get("type"):
        case "user":
            return None if entry.get("isMeta") is True else _log_user(entry)
        case "assistant":
            return _log_assistant(entry)
        case "system":
            return _log_system(entry)
        case "attachment":
            note = entry.get("attachment")
            if (
                isinstance(note, Mapping)
                and note.get("type") == "hook_blocking_error"
                and note.get("hookEvent") == "Stop"
            ):
                return Signal(
                    source=Source.LOG,
                    state=AgentState.WORKING,
                    tier=Tier.HOOK,
                    cause="log:stop_blocked",
                )
            return None
        case _:
            return _log_error(entry)


def _log_error(entry: Json) -> Signal | None:
    found = entry.get("error")
    if not found or found is True:
        return None if not found else _log_failure(ErrorCategory.OTHER, "unknown")
    detail = found if isinstance(found, str) else compact(found)
    return _log_failure(category_of(detail, detail), detail)


def _log_failure(category: ErrorCategory, detail: str) -> Signal:
    return Signal(
        source=Source.LOG,
        state=AgentState.ERROR,
        tier=Tier.HOOK,
        cause="log:error",
        ends=Ends.TURN,
        error=AgentError(category=category, detail=detail),
    )


def _log_user(entry: Json) -> Signal | None:
    blocks = _blocks(entry)
    turn_id = as_text(entry.get("promptId"))
    base = Signal(source=Source.LOG, tier=Tier.HOOK, turn_id=turn_id)
    texts = [as_text(block.get("text")) for block in blocks if block.get("type") == "text"]
    results = [block for block in blocks if block.get("type") == "tool_result"]
    if any(text.startswith(INTERRUPTED) for text in texts):
        return amend(base, state=AgentState.IDLE, cause="log:interrupted", ends=Ends.TURN)
    if any(text.startswith(ECHOES) for text in texts):
        return None
    if not results:
        return (
            amend(base, state=AgentState.WORKING, cause="log:user", ends=Ends.TURN)
            if texts
            else None
        )
    tool_use_id = as_text(results[0].get("tool_use_id"))
    said = [entry.get("toolUseResult"), *(result.get("content") for result in results)]
    is_rejected = any(isinstance(text, str) and text.startswith(REJECTED) for text in said)
    return amend(
        base,
        state=AgentState.IDLE if is_rejected else AgentState.WORKING,
        cause="log:rejected" if is_rejected else "log:user",
        ends=Ends.TOOL,
        tool_use_id=tool_use_id,
    )


def _log_assistant(entry: Json) -> Signal | None:
    failure = _log_error(entry)
    blocks = _blocks(entry)
    texts = [as_text(block.get("text")) for block in blocks if block.get("type") == "text"]
    if failure is not None or entry.get("isApiErrorMessage") is True:
        word = as_text(entry.get("error"))
        detail = "\n".join(texts) or word or "unknown"
        return _log_failure(category_of(word, detail), detail)
    base = Signal(source=Source.LOG)
    uses = [block for block in blocks if block.get("type") == "tool_use"]
    if uses:
        return _log_tool_use(base, uses)
    if any(block.get("type") in {"thinking", "redacted_thinking"} for block in blocks):
        return amend(base, state=AgentState.WORKING, cause="log:thinking")
    if not texts:
        return None
    message = entry.get("message")
    is_cut = isinstance(message, Mapping) and message.get("stop_reason") == "tool_use"
    return amend(
        base,
        state=AgentState.WORKING if is_cut else AgentState.IDLE,
        cause="log:text" if is_cut else "log:idle",
        tentative=not is_cut,
        last_message="\n".join(texts),
    )


def _log_tool_use(base: Signal, uses: list[Json]) -> Signal:
    tool = as_text(uses[0].get("name"))
    tool_input = uses[0].get("input")
    base = amend(
        base,
        tool=tool,
        input=compact(tool_input),
        tool_use_id=as_text(uses[0].get("id")),
    )
    if tool in ASKING:
        prompt = tool_prompt(tool, tool_input, Channel.KEYS, is_ready=False)
        return amend(
            base, state=AgentState.PROMPT, prompt=prompt, cause=f"log:prompt({prompt.kind})"
        )
    return amend(base, state=AgentState.WORKING, cause=f"log:tool({tool})")


def _log_system(entry: Json) -> Signal | None:
    match entry.get("subtype"):
        case "turn_duration":
            return Signal(
                source=Source.LOG,
                state=AgentState.IDLE,
                tier=Tier.HOOK,
                cause="log:turn",
                is_turn_over=True,
                ends=Ends.TURN,
            )
        case "api_error":
            attempt, attempts = (
                as_number(entry.get("retryAttempt")),
                as_number(entry.get("maxRetries")),
            )
            if not attempt:
                return _log_error(entry)
            detail = compact(entry.get("error"))
            return Signal(
                source=Source.LOG,
                state=AgentState.WORKING,
                cause="log:retrying",
                error=AgentError(
                    error_category(detail), detail[:500], attempt, max(attempt, attempts)
                ),
            )
        case _:
            return None


def _usage(entry: Json) -> UsageEntry | None:
    message = entry.get("message")
    inner: Json = message if isinstance(message, Mapping) else {}
    found = inner.get("usage", entry.get("usage"))
    if not isinstance(found, Mapping):
        return None
    tokens_in, tokens_out = (
        as_number(found.get("input_tokens")),
        as_number(found.get("output_tokens")),
    )
    if not tokens_in and not tokens_out:
        return None
    cost = entry.get("costUSD")
    key = as_text(inner.get("id")) or as_text(entry.get("requestId")) or as_text(entry.get("uuid"))
    return UsageEntry(
        key=key,
        usage=Usage(
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            cache_read_tokens=as_number(found.get("cache_read_input_tokens")),
            cache_write_tokens=as_number(found.get("cache_creation_input_tokens")),
            total_cost_usd=float(cost) if isinstance(cost, int | float) else 0.0,
            request_count=1,
            total_api_ms=as_number(entry.get("durationMs")),
        ),
    )


def _blocks(entry: Json) -> list[Json]:
    message = entry.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return (
        [block for block in content if isinstance(block, Mapping)]
        if isinstance(content, list)
        else []
    )
