"""The commands of the palette.

Rule: everything in it can be done by keys as well; here it is found by its name. What has a name of its own - jobs, agents,
decisions - is offered once something was typed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.fuzzy import Matcher

from oj_daemon.wire.names import ENDED_AGENTS
from oj_tui import jump
from oj_tui.screens.open import open_by_id

if TYPE_CHECKING:
    from oj_tui.app import OjApp


class Command(NamedTuple):
    """One line of the palette."""

    title: str
    help: str
    run: Callable[[], object]


class OjCommands(Provider):
    """Where to go, what to open, and what to do with the view itself."""

    @property
    def _oj(self) -> OjApp:
        app: OjApp = self.app  # type: ignore[assignment]  # no other app has this palette
        return app

    async def discover(self) -> Hits:
        """What is there before anything is typed."""
        for command in self._fixed():
            yield DiscoveryHit(command.title, command.run, help=command.help)

    async def search(self, query: str) -> Hits:
        """What fits to what was typed."""
        matcher = self.matcher(query)
        for command in (*self._fixed(), *self._named()):
            score = matcher.match(command.title)
            if score > 0:
                yield Hit(score, _shown(matcher, command.title), command.run, help=command.help)

    def _fixed(self) -> Iterator[Command]:
        app = self._oj
        for number, mode in enumerate(jump.MODES, 1):
            yield Command(f"Go to {mode}", f"key {number}", partial(app.action_mode, mode))
        yield Command("Jump to", "by noun and id; key :", app.action_jump)
        yield Command("Show keys", "of this screen; key ?", app.action_help)
        yield Command("Toggle dark and light", "key t", app.action_theme)
        yield Command("Choose a theme", "of those that the library has", app.search_themes)
        yield Command("Quit", "jobs go on; key q", app.action_quit)

    def _named(self) -> Iterator[Command]:
        app = self._oj
        for noun in jump.NOUNS.values():
            for thing in jump.things(noun, app.store):
                run = partial(open_by_id, app, thing.id)
                yield Command(f"Open {noun} {thing.label}", thing.id, run)
        for agent in app.store.agents.values():
            if agent["status"] not in ENDED_AGENTS:
                title = f"Attach to {jump.label_of(agent)}"
                yield Command(title, "its terminal", partial(app.run_oj, "attach", agent["id"]))


def _shown(matcher: Matcher, title: str) -> Content:
    """The title, what fits marked in it. The library would read the brackets in a name as markup."""
    return Content(title, list(matcher.highlight(title.replace("[", "(")).spans))
