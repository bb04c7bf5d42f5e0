"""All keys of the screen below.

Rule: made of the bindings themselves, so it cannot tell of keys that are not there, or leave one out.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from oj_tui.crash import Unbroken

Keys = dict[str, dict[str, list[str]]]
"""Group -> what is done -> its keys."""


def keys_of(screen: Screen[Any]) -> Keys:
    """What can be pressed now, nearest first."""
    groups: Keys = {
        "This screen": {},
        "Where the cursor is": {},
        "Everywhere": {},
        "On every screen": {},
    }
    for node, binding, is_enabled, _ in screen.active_bindings.values():
        if not binding.description or not is_enabled:
            continue
        group = "Where the cursor is"
        if node is screen:
            # The library's own keys of screens, such as Tab, are the same on all of them.
            own = {each.key for each in _bindings(type(screen))}
            group = "This screen" if binding.key in own else "On every screen"
        elif node is screen.app:
            group = "Everywhere"
        shown = groups[group].setdefault(binding.description, [])
        shown.append(screen.app.get_key_display(binding))
    return {group: keys for group, keys in groups.items() if keys}


def _bindings(kind: type) -> list[Binding]:
    ours = [base for base in kind.__mro__ if base.__module__.startswith("oj_tui")]
    declared = [each for base in ours for each in vars(base).get("BINDINGS", ())]
    return list(Binding.make_bindings(declared))


class Help(Unbroken, ModalScreen[None]):
    """Shows the keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "leave", "Back"),
        Binding("up,k", "scroll('up')", "Up", show=False),
        Binding("down,j", "scroll('down')", "Down", show=False),
    ]

    def __init__(self, screen: Screen[Any]) -> None:
        super().__init__()
        self._keys = keys_of(screen)

    def compose(self) -> ComposeResult:
        """Groups, each key with what it does."""
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title = "Keys"
            dialog.border_subtitle = "Esc goes back"
            yield Static(self._text())

    def _text(self) -> Text:
        text = Text()
        longest = max(
            (len(" ".join(keys)) for group in self._keys.values() for keys in group.values()),
            default=0,
        )
        for group, keys in self._keys.items():
            text.append(f"{group}\n", "bold")
            for description, names in keys.items():
                text.append(f"  {' '.join(names):<{longest}}  {description}\n")
        text.rstrip()
        return text

    def action_scroll(self, way: str) -> None:
        """Show more."""
        dialog = self.query_one(VerticalScroll)
        dialog.scroll_relative(y=1 if way == "down" else -1, animate=False)

    def action_leave(self) -> None:
        """Back to the screen."""
        self.dismiss(None)
