"""Agents -> what stands in cells and lines.

Rule: pure, as render.py. What an agent said of itself is text of others, and made harmless here.
"""

from __future__ import annotations

from typing import Final

from oj_daemon.wire.format import duration, elapsed, since
from oj_daemon.wire.names import ENDED_AGENTS, short_id
from oj_daemon.wire.text import visible
from oj_tui import listing
from oj_tui.render import Line, Piece, clean, status
from oj_tui.store import View

STATES: Final = {
    "working": ("▸", "busy"),
    "idle": ("○", "warn"),
    "prompt": ("?", "warn"),
    "error": ("!", "bad"),
    "starting": ("◌", "muted"),
    "restarting": ("↻", "busy"),
    "exited": ("■", "muted"),
    "unknown": ("·", "muted"),
}
"""Sign and style of what a session is doing."""
SAID_LINES: Final = 40
"""Lines of the last message that are shown."""
FIELDS: Final = (
    "name", "status", "state", "step", "project", "job_name", "id", "owner", "detail",
)  # fmt: skip
"""What a filter looks at."""
LABEL: Final = 10
"""Columns of the names of fields."""


def is_live(agent: View) -> bool:
    """Whether its session has not ended."""
    return agent["status"] not in ENDED_AGENTS


def agent_row(agent: View, now: int) -> list[Piece]:
    """A row of the list of agents: id, name, status, state, job, step, project, did, tokens, cost, age, waits for."""
    return [
        (short_id(agent["id"]), "muted"),
        (clean(agent["name"]), "name"),
        status(clean(agent["status"])),
        state(agent),
        (job_of(agent), ""),
        (clean(agent["step"]), ""),
        (clean(agent["project"]), "muted"),
        (deeds(agent), ""),
        (tokens(agent), "muted"),
        (cost(agent), ""),
        (age(agent, now), "muted"),
        (waits_for(agent), "warn" if is_live(agent) else "muted"),
    ]


def state(agent: View) -> Piece:
    """What a live session is doing: its sign and its word."""
    if not is_live(agent):
        return "", ""
    word = str(agent["state"])
    sign, style = STATES.get(word, STATES["unknown"])
    return (f"{sign} {clean(word)}", style) if word else ("", "")


def job_of(agent: View) -> str:
    """What its job is called; the short id where it was given no name."""
    owner = str(agent["owner"]).partition(":")[2]
    name = str(agent["job_name"])
    return short_id(owner) if name in ("", owner) else clean(name)


def deeds(agent: View) -> str:
    """Files read, files written, commands run: `3/1/7`; empty for nothing."""
    counts = (agent["files_read"], agent["files_written"], agent["commands"])
    return "/".join(str(count) for count in counts) if any(counts) else ""


def tokens(agent: View) -> str:
    """Tokens that went in and came out: `12k/3k`; empty where that is not known."""
    usage = agent["usage"]
    if not usage:
        return ""
    told = usage["input_tokens"] + usage["cache_read_tokens"] + usage["cache_write_tokens"]
    return f"{amount(told)}/{amount(usage['output_tokens'])}"


def amount(count: int) -> str:
    """A number in few characters: `999`, `12k`, `3.4M`."""
    if count < 1_000:
        return str(count)
    if count < 999_500:
        return f"{count / 1_000:.1f}k" if count < 9_950 else f"{count / 1_000:.0f}k"
    return f"{count / 1_000_000:.1f}M"


def cost(agent: View) -> str:
    """What it cost in dollars; empty where that is not known."""
    usage = agent["usage"]
    return f"${usage['total_cost_usd']:.2f}" if usage and usage["total_cost_usd"] else ""


def age(agent: View, now: int) -> str:
    """How long it has been there; of one that has ended, how long it was."""
    if agent["finished_at_ms"]:
        return elapsed(max(0, agent["finished_at_ms"] - agent["created_at_ms"]))
    return since(agent["created_at_ms"], now)


def waits_for(agent: View) -> str:
    """What it waits for, or why it is as it is."""
    why = str(agent["detail"]).strip()
    reason = str(agent["exit_reason"]).strip()
    if reason and reason not in why:
        why = f"{why}; {reason}" if why else reason
    if agent["decision_id"] and is_live(agent):
        # The daemon's own words say that it waits for one, and not for which.
        rest = why.removeprefix("waits for a decision")
        between = ": " if rest == why and why else ""
        return f"decision {short_id(agent['decision_id'])}{between}{clean(rest)}"
    return clean(why)


def matches(agent: View, typed: str) -> bool:
    """Whether every word that was typed stands somewhere in its row; `field:word` in that field."""
    return bool(listing.matching([agent], typed, FIELDS))


def screen_title(screen: View | None, problem: str = "") -> Line:
    """The line above a terminal: whose it is, and whether it is live."""
    if problem:
        return [(f"cannot look at the screen: {clean(problem)}", "bad")]
    if screen is None:
        return [("asking for the screen ...", "muted")]
    name = clean(screen["name"])
    if screen["live"]:
        return [("● live", "good"), (f"  the terminal of {name}", "")]
    if screen["lines"]:
        return [(f"■ last screen, {clean(screen['status'])}", "warn"), (f"  of {name}", "muted")]
    if screen["status"] in ("queued", "starting"):
        return [("no screen yet: it does not run", "muted")]
    return [(f"no screen was kept: it is {clean(screen['status'])}", "muted")]


def agent_lines(agent: View, now: int) -> list[Line]:
    """What there is to say about an agent, beside its terminal."""
    kind, _, owner = str(agent["owner"]).partition(":")
    fields: list[tuple[str, Line]] = [
        ("Agent", [(short_id(agent["id"]), ""), (f" {clean(agent['name'])}", "name")]),
        ("Crew" if kind == "crew" else "Job", _job(agent, owner)),
        ("Step", [(clean(agent["step"]), "")] if kind != "crew" else []),
        ("Project", [(clean(agent["project"]), "")]),
        ("Status", [status(clean(agent["status"])), (f"  {_for(agent, now)}", "muted")]),
        ("State", [state(agent)]),
        ("Waits for" if is_live(agent) else "Why", [(waits_for(agent), "warn" if is_live(agent) else "")]),
        ("Did", [(_did(agent), "")]),
        ("Tokens", [(_spent(agent), "")]),
        ("Cost", [(cost(agent), "")]),
        ("Attempts", [(", ".join(f"{clean(key)} {count}" for key, count in agent["attempts"].items()), "")]),
    ]  # fmt: skip
    made: list[Line] = [
        [(label.ljust(LABEL), "muted"), *pieces]
        for label, pieces in fields
        if any(text for text, _ in pieces)
    ]
    return made + _said(agent)


def agent_brief(agent: View, now: int) -> list[Line]:
    """The same in few lines, for a terminal that is small."""
    kind, _, owner = str(agent["owner"]).partition(":")
    step = f", step {clean(agent['step'])}" if kind != "crew" and agent["step"] else ""
    spent = ", ".join(part for part in (_did(agent), _spent(agent), cost(agent)) if part)
    state_piece = state(agent)
    made: list[Line] = [
        [
            status(clean(agent["status"])),
            (f" {_for(agent, now)}  ", "muted"),
            state_piece,
            ("  " if state_piece[0] else "", ""),
            (clean(agent["name"]), "name"),
            (f" {short_id(agent['id'])}", "muted"),
        ],
        [("Job ", "muted"), *_job(agent, owner), (f"{step} in {clean(agent['project'])}", "")],
    ]
    if waits_for(agent):
        label = "Waits for " if is_live(agent) else "Why "
        made.append([(label, "muted"), (waits_for(agent), "warn" if is_live(agent) else "")])
    if spent:
        made.append([(spent, "muted")])
    return made + _said(agent)


def _said(agent: View) -> list[Line]:
    made: list[Line] = []
    said = str(agent["last_message"]).strip().splitlines()
    if said:
        made.append([("Last message", "muted")])
        made.extend([(f"  {visible(text)}", "")] for text in said[:SAID_LINES])
        if len(said) > SAID_LINES:
            made.append([(f"  ... {len(said) - SAID_LINES} more lines", "muted")])
    return made


def _job(agent: View, owner: str) -> Line:
    name = job_of(agent)
    short = short_id(owner)
    return [(short, "muted"), (f" {name}" if name != short else "", "")]


def _for(agent: View, now: int) -> str:
    ended = agent["finished_at_ms"]
    return f"{'after' if ended else 'for'} {duration((ended or now) - agent['created_at_ms'])}"


def _did(agent: View) -> str:
    counts = (
        (agent["files_read"], "file", "read"),
        (agent["files_written"], "file", "written"),
        (agent["commands"], "command", "run"),
    )
    return ", ".join(
        f"{count} {noun}{'' if count == 1 else 's'} {verb}" for count, noun, verb in counts if count
    )


def _spent(agent: View) -> str:
    usage = agent["usage"]
    if not usage:
        return ""
    cached = usage["cache_read_tokens"] + usage["cache_write_tokens"]
    told = f"{amount(usage['input_tokens'])} in, {amount(usage['output_tokens'])} out"
    return f"{told}, {amount(cached)} cached" if cached else told
