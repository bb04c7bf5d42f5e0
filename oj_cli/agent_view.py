"""An agent as text.

Rule: pure. AgentView and the present moment in, lines for `oj_cli.output` out.
"""

from __future__ import annotations

from oj_cli import output
from oj_daemon.wire.format import elapsed, moment
from oj_daemon.wire.names import short_id
from oj_daemon.wire.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oj_cli.output import Text

    Line = list[Text]

MESSAGE_LINES = 12
"""Lines of the last message that are shown."""


def lines(view: dict[str, Any], now: int) -> list[Line]:
    """Everything that `oj agent show` prints."""
    kind, _, owner = view["owner"].partition(":")
    name = "" if view["job_name"] == owner else f" {view['job_name']}"
    ended = view["finished_at_ms"]
    age = elapsed((ended or now) - view["created_at_ms"])
    fields: list[tuple[str, Line]] = [
        ("Agent", [output.literal(view["id"])]),
        ("Name", [view["name"]]),
        ("Crew" if kind == "crew" else "Job", [output.literal(short_id(owner)), name]),
        ("Step", [view["step"]] if kind != "crew" else []),
        ("Project", [view["project"]]),
        ("Status", [output.status(view["status"]), f" ({'after' if ended else 'for'} {age})"]),
        ("State", [view["state"]] if not ended else []),
        ("Why", [one_line(why(view))]),
        ("Runtime", [view["runtime"]]),
        ("Session", [view["session_id"]]),
        ("Attempts", [", ".join(f"{key} {count}" for key, count in view["attempts"].items())]),
        ("Did", [deeds(view)]),
        ("Usage", [usage(view)]),
        ("Started", [moment(view["created_at_ms"])]),
        ("Updated", [moment(view["updated_at_ms"]), f" ({elapsed(max(0, now - view['updated_at_ms']))} ago)"]),
        ("Ended", [moment(ended)] if ended else []),
    ]  # fmt: skip
    made: list[Line] = [
        [output.header(f"{label}:"), " " * (10 - len(label)), *parts]
        for label, parts in fields
        if any(output.plain(part) for part in parts)
    ]
    said = view["last_message"].strip().splitlines()
    if said:
        made += [[], [output.header("Last message:")]]
        made.extend([f"  {text}"] for text in said[:MESSAGE_LINES])
        if len(said) > MESSAGE_LINES:
            made.append([output.muted(f"  ... {len(said) - MESSAGE_LINES} more lines")])
    if view.get("decision_id"):
        short = short_id(view["decision_id"])
        made += [
            [],
            [
                output.context("It waits for a decision: "),
                output.literal(f"oj decision show {short}"),
            ],
        ]
    return made


def why(view: dict[str, Any]) -> str:
    """Why the agent is as it is, in one line."""
    detail = str(view["detail"]).strip()
    reason = str(view["exit_reason"]).strip()
    return detail if not reason or reason in detail else f"{detail}; {reason}".removeprefix("; ")


def deeds(view: dict[str, Any]) -> str:
    """How much it did; empty for nothing."""
    counts = [
        (view.get("files_read", 0), "read"),
        (view.get("files_written", 0), "written"),
        (view.get("commands", 0), "run"),
    ]
    nouns = ("file", "file", "command")
    return ", ".join(
        f"{count} {noun}{'' if count == 1 else 's'} {verb}"
        for (count, verb), noun in zip(counts, nouns, strict=True)
        if count
    )


def usage(view: dict[str, Any]) -> str:
    """What it spent; empty where that is not known."""
    spent = view.get("usage")
    if not spent:
        return ""
    cached = spent["cache_read_tokens"] + spent["cache_write_tokens"]
    cost = f", ${spent['total_cost_usd']:.2f}" if spent["total_cost_usd"] else ""
    return f"{spent['input_tokens']} tokens in, {spent['output_tokens']} out, {cached} cached{cost}"
