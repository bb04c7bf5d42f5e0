"""What all widgets share that show lines of their own: the keys that walk through them, and the styles of their text."""

from __future__ import annotations

from typing import Final

from textual.binding import Binding, BindingType

from oj_daemon.wire import picture

STYLE_CLASSES: Final = frozenset(f"style--{name or 'plain'}" for name in picture.STYLES)
"""Component classes of the styles that pieces of text name; oj.tcss says how they look."""
KEYS: Final[tuple[BindingType, ...]] = (
    Binding("up,k", "move(-1)", "Up", show=False),
    Binding("down,j", "move(1)", "Down", show=False),
    Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
    Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
    Binding("home,g", "go(0)", "First", show=False),
    Binding("end,G", "go(-1)", "Last", show=False),
    Binding("enter", "open", "Open"),
)
"""Of lists whose rows can be opened."""
