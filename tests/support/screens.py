"""What a screen of the live view shows, as text: for tests that look at it as a person does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from textual.app import App

FOLDER = Path(__file__).parent.parent / "data" / "tui"


def lines(app: App[Any]) -> list[str]:
    """The lines of the screen, without spaces at their ends."""
    return [
        "".join(segment.text for segment in strip).rstrip()
        for strip in app.screen._compositor.render_strips()
    ]


def text(app: App[Any]) -> str:
    """The screen as one text."""
    return "\n".join(lines(app)) + "\n"


def compare(app: App[Any], name: str) -> None:
    """The screen looks as in tests/data/tui/NAME.txt; UPDATE_SCREENS=1 writes it down anew."""
    path = FOLDER / f"{name}.txt"
    shown = text(app)
    if os.environ.get("UPDATE_SCREENS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text()
