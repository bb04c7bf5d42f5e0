"""What the screen of Claude Code shows.

Rule: the input box at the bottom means that no dialog is open; only without it are options a dialog, for the agent may
print whatever it likes above.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from oj_daemon.drivers.base import (
    AgentError,
    AgentState,
    Channel,
    Dialog,
    Prompt,
    PromptKind,
    Signal,
    Source,
)
from oj_daemon.drivers.dialogs import known_dialog
from oj_daemon.drivers.fields import amend
from oj_daemon.drivers.screens import RULE, error_category, last_lines, read_menu, read_options

RETRYING: Final = re.compile(
    r"(?P<what>API error.*?)\s*·\s*Retrying in .*?attempt (?P<attempt>\d+)/(?P<attempts>\d+)",
    re.IGNORECASE,
)
SPINNER: Final = re.compile(r"^\s?[·✢✳✶✻✽*]\s+\S[^·]*…")
MARKER: Final = "\u276f"
INTERRUPT_HINT: Final = "esc to interrupt"


def read_screen(lines: Sequence[str]) -> Signal:  # noqa: PLR0911 - one return for each kind of screen
    """Return what the screen shows."""
    base = Signal(source=Source.SCREEN)
    bottom = last_lines(lines, 40)
    box = _input_box(bottom)
    if box is not None:
        return _status(base, bottom[:box], bottom[box:])
    options, selected = read_options(bottom)
    known = known_dialog("\n".join(bottom))
    if known is not None:
        if not options:
            options, selected = read_menu(lines)
        dialog = Dialog(known.name, options, selected, known.kind, _dialog_text(bottom))
        prompt = Prompt(
            kind=known.kind,
            subtype=known.name,
            options=options,
            channel=Channel.KEYS,
        )
        cause = "screen:permission" if known.kind is PromptKind.PERMISSION else "screen:setup"
        return amend(base, state=AgentState.PROMPT, prompt=prompt, cause=cause, dialog=dialog)
    if options:
        kind = _dialog_kind(bottom)
        if kind is None:
            return base
        return amend(base, dialog=Dialog(kind.value, options, selected, kind, _dialog_text(bottom)))
    if any(line.lstrip().startswith(MARKER) for line in bottom[-3:]):
        return _status(base, bottom, bottom[-2:])
    if any(_is_spinner(line) for line in bottom[-6:]):
        return amend(base, state=AgentState.WORKING, cause="screen:thinking")
    return base


def _input_box(bottom: list[str]) -> int | None:
    """Return where the input box begins: a line with the marker between two rules, with nothing but hints below."""
    rules = [index for index, line in enumerate(bottom) if RULE.match(line)]
    if len(rules) < 2:
        return None
    first, last = rules[-2], rules[-1]
    if last - first < 2 or len(bottom) - last > 6:
        return None
    inside = bottom[first + 1].lstrip()
    after = inside.removeprefix(MARKER).lstrip()
    is_option = after[:1].isdigit() and after[1:2] in {".", ")"}
    # Below a list of options there may be a second rule and one more option; below the input there are hints.
    has_options = any(read_options([line])[0] for line in bottom[last + 1 :])
    return first if inside.startswith(MARKER) and not is_option and not has_options else None


def _status(base: Signal, above: list[str], below: list[str]) -> Signal:
    for line in above[-6:]:
        retry = RETRYING.search(line)
        if retry is not None:
            error = AgentError(
                error_category(retry["what"]),
                line.strip(" ✻✽✶✳✢·*"),
                int(retry["attempt"]),
                int(retry["attempts"]),
            )
            return amend(base, state=AgentState.WORKING, cause="screen:retrying", error=error)
    if any(INTERRUPT_HINT in line for line in below) or any(
        _is_spinner(line) for line in above[-6:]
    ):
        return amend(base, state=AgentState.WORKING, cause="screen:thinking")
    return amend(base, state=AgentState.IDLE, cause="screen:idle")


def _is_spinner(line: str) -> bool:
    return SPINNER.match(line) is not None


def _dialog_kind(bottom: list[str]) -> PromptKind | None:
    text = "\n".join(bottom)
    if "Enter to select" in text and "Esc to cancel" in text:
        return PromptKind.QUESTION
    if "Exit plan mode?" in text or "Would you like to proceed?" in text:
        return PromptKind.PLAN
    if "Do you want to " in text:
        return PromptKind.PERMISSION
    return None


def _dialog_text(bottom: list[str]) -> str:
    """Return what a dialog asks: the lines from the rule above it to its options."""
    top = max(
        (i for i, line in enumerate(bottom[:-1]) if RULE.match(line) and not _is_footer(bottom, i)),
        default=-1,
    )
    lines = []
    for line in bottom[top + 1 :]:
        if read_options([line])[0]:
            break
        lines.append(line.strip())
    return "\n".join(lines)


def _is_footer(bottom: list[str], rule: int) -> bool:
    """Whether the first option stands above this rule: then it only parts the last option off."""
    return any(
        line.lstrip(f" {MARKER}").startswith("1.") for line in bottom[max(0, rule - 30) : rule]
    ) and not any(line.lstrip(f" {MARKER}").startswith("1.") for line in bottom[rule:])
