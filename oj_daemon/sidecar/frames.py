"""What the machine says, in the words of the API.

Rule: pure. One function for each shape; the same shape in HTTP replies and in WebSocket frames.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import msgspec

from oj_daemon.drivers.base import AgentError, Prompt, Usage
from oj_daemon.sidecar.ring import Ring
from oj_daemon.sidecar.screen import Screen
from oj_daemon.sidecar.values import (
    Event,
    Exit,
    PromptOutcome,
    Stalled,
    StartOutcome,
    StopOutcome,
    Transition,
    UsageChanged,
)

Shape = dict[str, object]


def prompt_shape(prompt: Prompt | None) -> Shape | None:
    """A prompt, or null."""
    if prompt is None:
        return None
    shape: Shape = {
        "type": str(prompt.kind),
        "seq": prompt.seq,
        "tool": prompt.tool or None,
        "input": prompt.input or None,
        "options": list(prompt.options),
        "options_fallback": prompt.options_fallback,
        "questions": [
            {
                "question": question.question,
                "header": question.header,
                "multi_select": question.multi_select,
                "options": [option.label for option in question.options],
                "descriptions": [option.description or None for option in question.options],
            }
            for question in prompt.questions
        ],
        "question_current": prompt.question_current,
        "ready": prompt.ready,
        "groomed": prompt.groomed,
        "channel": str(prompt.channel),
    }
    return shape | ({"subtype": prompt.subtype} if prompt.subtype else {})


def error_shape(error: AgentError | None) -> Shape:
    """The fields of an error; none when there is none."""
    if error is None:
        return {}
    shape: Shape = {"error_detail": error.detail, "error_category": str(error.category)}
    if error.is_retrying:
        shape |= {"error_attempt": error.attempt, "error_attempts": error.attempts}
    return shape


def usage_shape(usage: Usage) -> Shape:
    """The seven counters."""
    return dict(msgspec.structs.asdict(usage))


def event_shape(event: Event) -> Shape:
    """One event as a frame."""
    shape: Shape
    match event:
        case Transition():
            shape = {
                "event": "transition",
                "prev": str(event.prev),
                "next": str(event.next),
                "seq": event.seq,
                "epoch": event.epoch,
                "prompt": prompt_shape(event.prompt),
                **error_shape(event.error),
            }
            if event.cause:
                shape["cause"] = event.cause
            if event.last_message is not None:
                shape["last_message"] = event.last_message
        case StopOutcome():
            shape = {"event": "stop:outcome", "type": event.type, "seq": event.seq}
            if event.signal is not None:
                shape["signal"] = event.signal
            if event.error_detail:
                shape["error_detail"] = event.error_detail
        case UsageChanged():
            shape = {
                "event": "usage:update",
                "cumulative": usage_shape(event.cumulative),
                "seq": event.seq,
            }
        case Exit() | StartOutcome() | PromptOutcome() | Stalled():
            shape = msgspec.to_builtins(event)
    return shape


def screen_shape(screen: Screen, figures: tuple[int, int, int], *, cursor: bool) -> Shape:
    """The screen; the figures are columns, rows and sequence number."""
    cols, rows, seq = figures
    row, column = screen.cursor()
    return {
        "lines": screen.lines(),
        "ansi": screen.styled(),
        "cols": cols,
        "rows": rows,
        "alt_screen": screen.is_alternate(),
        "cursor": {"row": row, "col": column} if cursor else None,
        "seq": seq,
    }


def output_shape(ring: Ring, offset: int, limit: int | None) -> Shape:
    """A piece of the raw output."""
    piece = ring.read(offset, limit)
    return {
        "data": base64.b64encode(piece.data).decode(),
        "offset": piece.offset,
        "next_offset": piece.next_offset,
        "total_written": ring.total,
    }


def encode(shape: Mapping[str, object]) -> str:
    """A frame as text."""
    return msgspec.json.encode(shape).decode()
