"""What is typed after `:`, read and completed.

Rule: pure. A line is the name of a mode, or a noun and what to open of it, or a command; every word may be shortened as long
as only one thing is meant. What cannot be read is answered with what may have been meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

import msgspec

from oj_daemon.errors import OjError
from oj_daemon.wire.names import short_id
from oj_tui.render import clean
from oj_tui.store import LIVE, Store, View

NOUNS: Final = {"jobs": "job", "agents": "agent", "decisions": "decision"}
"""Modes that are lists, and the noun of what is in them."""
MODES: Final = ("overview", *NOUNS, "daemon")
COMMANDS: Final = {"quit": "quit", "q": "quit", "help": "help", "theme": "theme"}
"""Other words, and the app's action for each."""
WORDS: Final = {
    **{mode: ("mode", mode) for mode in MODES},
    **{noun: ("mode", mode) for mode, noun in NOUNS.items()},
    **{word: ("action", action) for word, action in COMMANDS.items()},
}
MOST: Final = 8
"""How many completions are offered."""


class Goal(msgspec.Struct, frozen=True):
    """Where to go."""

    kind: str
    """mode, open or action."""
    to: str
    """Name of the mode or the action, or full id."""


class Thing(msgspec.Struct, frozen=True):
    """Something that has a screen of its own."""

    id: str
    name: str
    is_live: bool

    @property
    def label(self) -> str:
        """As it is offered: name and short id."""
        return f"{self.name} {short_id(self.id)}" if self.name else short_id(self.id)


def things(noun: str, store: Store) -> list[Thing]:
    """All of a noun, the newest change first."""
    kept = {"job": store.jobs, "agent": store.agents, "decision": store.decisions}[noun]
    views = sorted(kept.values(), key=_changed, reverse=True)
    return [Thing(view["id"], _name(view), _is_live(view)) for view in views]


def label_of(view: View) -> str:
    """A view as it is offered."""
    return Thing(view["id"], _name(view), _is_live(view)).label


def read(line: str, store: Store) -> Goal:
    """The goal of a line; raises OjError."""
    word, _, rest = " ".join(line.split()).partition(" ")
    if not word:
        raise OjError("nothing was typed", code="invalid", hint="type jobs, job ID, q")
    meant = _meant(word)
    if len(meant) > 1:
        names = " or ".join(sorted(to for _, to in meant))
        raise OjError(f"'{word}' may be {names}", code="ambiguous", hint="type one letter more")
    if not meant:
        found = [each for noun in NOUNS.values() for each in _find(noun, word, store)]
        if len(found) == 1 and not rest:
            return Goal("open", found[0].id)
        raise OjError(f"there is no '{word}'", code="not_found", hint=_nearest(word, store))
    kind, to = meant.pop()
    if kind == "mode" and to in NOUNS and rest:
        return Goal("open", _one(NOUNS[to], rest, store))
    return Goal(kind, to)


def complete(line: str, store: Store) -> list[str]:
    """What the line may become, the likeliest first."""
    word, space, rest = line.lstrip().partition(" ")
    if not space:
        names = [*MODES, *NOUNS.values(), "quit", "help", "theme"]
        return [name for name in names if name.startswith(word.lower())][:MOST]
    meant = _meant(word)
    kind, to = meant.pop() if len(meant) == 1 else ("", "")
    if kind != "mode" or to not in NOUNS:
        return []
    wanted = rest.strip().lower()
    found = [
        thing
        for thing in things(NOUNS[to], store)
        if _has_prefix(thing, wanted) or thing.label.lower().startswith(wanted)
    ]
    return [f"{word} {thing.label}" for thing in found[:MOST]]


def _meant(word: str) -> set[tuple[str, str]]:
    word = word.lower()
    if word in WORDS:
        return {WORDS[word]}
    return {goal for name, goal in WORDS.items() if name.startswith(word)}


def _one(noun: str, words: str, store: Store) -> str:
    found = _find(noun, words, store)
    if len(found) == 1:
        return found[0].id
    if not found:
        names = {thing.name: None for thing in things(noun, store)}
        near = difflib.get_close_matches(words, names, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"type {noun}s to see them all"
        raise OjError(f"there is no {noun} '{words}'", code="not_found", hint=hint)
    some = ", ".join(thing.label for thing in found[:4])
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    message = f"'{words}' may be {some}{more}"
    raise OjError(message, code="ambiguous", hint="type more of the id")


def _find(noun: str, words: str, store: Store) -> list[Thing]:
    """What is meant by a name, an id, the beginning of one, or both as completions write them; best kind of match only."""
    words = words.lower()
    all_ = things(noun, store)
    named = [thing for thing in all_ if words == thing.name.lower()]
    for found in (
        [thing for thing in all_ if words in (thing.id, thing.label.lower())],
        [thing for thing in named if thing.is_live],
        named,
        [thing for thing in all_ if _has_prefix(thing, words)],
    ):
        if found:
            return found
    return []


def _has_prefix(thing: Thing, word: str) -> bool:
    # Four characters of the id are those that all ids of its noun begin with.
    is_id = thing.id[4:].startswith(word) or (len(word) > 4 and thing.id.startswith(word))
    return bool(word) and (is_id or thing.name.lower().startswith(word))


def _nearest(word: str, store: Store) -> str:
    names: Iterable[str] = (
        thing.name for noun in NOUNS.values() for thing in things(noun, store) if thing.name
    )
    near = difflib.get_close_matches(word.lower(), [*WORDS, *dict.fromkeys(names)], 1, 0.5)
    return f"did you mean '{near[0]}'?" if near else f"there are {', '.join(MODES)} and quit"


def _name(view: View) -> str:
    name = view["owner_name"] if "owner_name" in view else view["name"]
    return clean(view["kind"] if name == view["id"] and "kind" in view else name)


def _changed(view: View) -> int:
    return int(view["updated_at_ms"] if "updated_at_ms" in view else view["created_at_ms"])


def _is_live(view: View) -> bool:
    return view["status"] in LIVE or view["status"] in ("open", "starting", "queued")
