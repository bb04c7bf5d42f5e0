"""A picture of the view, made without a terminal, for reports.

Rule: what it shows is what a person would see; the file is written whole or not at all, and loads nothing from anywhere.
"""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import Final

from textual.pilot import Pilot

from oj_daemon.errors import OjError
from oj_tui.app import OjApp

FOREIGN: Final = re.compile(r"@font-face\s*\{[^}]*\}\s*|<!--.*?-->\s*", re.DOTALL)
"""The library names fonts on somebody's server; a browser has one of fixed width itself."""
POLL_SECONDS: Final = 0.05
OPENING_SECONDS: Final = 2.0
"""How long a screen may take to ask for what it shows."""


def take(app: OjApp, path: Path, *, size: tuple[int, int]) -> None:
    """Write what the app shows, once it knows something, as an SVG.

    Raises OjError when the daemon cannot be asked, or the file cannot be written.
    """
    made: list[str] = []

    async def look(pilot: Pilot[None]) -> None:
        while not app.store.is_filled and app.lost is None:
            await pilot.pause(POLL_SECONDS)
        # What a screen asks for itself when it opens, such as a log; some never stop asking.
        until = time.monotonic() + OPENING_SECONDS
        while time.monotonic() < until and not all(each.is_finished for each in app.workers):
            await pilot.pause(POLL_SECONDS)
        await pilot.pause()
        if app.lost is None:
            made.append(FOREIGN.sub("", app.export_screenshot(title="oj tui")))
        app.exit()

    app.run(headless=True, size=size, auto_pilot=look)  # type: ignore[arg-type]  # it is our app that the pilot drives
    if app.lost is not None:
        raise app.lost
    if not made:
        message = "the view ended before there was something to see"
        raise OjError(message, code="internal")
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(made[0], encoding="utf-8")
        beside.replace(path)
    except OSError as failure:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        message = f"cannot write {path}: {failure.strerror or failure}"
        raise OjError(message, code="invalid") from failure
