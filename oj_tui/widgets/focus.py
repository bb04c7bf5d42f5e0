"""Where the next key goes.

Rule: at once. `Widget.focus()` of the library waits until what was typed meanwhile has been worked off, so the first letters
after `/` would be taken for keys of the list.
"""

from __future__ import annotations

from textual.widget import Widget


def take_focus(widget: Widget) -> None:
    """Send every key from now on to this widget; it may have gone meanwhile, with its screen."""
    if widget.is_attached:
        widget.screen.set_focus(widget)
