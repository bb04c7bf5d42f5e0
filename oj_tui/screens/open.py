"""From an id to the screen that shows it.

Rule: the only place that knows which id is shown by which screen. They are imported when they are opened: the first picture
must not wait for all of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from textual.screen import Screen

if TYPE_CHECKING:
    from oj_tui.app import OjApp

SCREENS: Final[dict[str, tuple[str, str]]] = {
    "job-": ("oj_tui.screens.job_detail", "JobScreen"),
    "crw-": ("oj_tui.screens.job_detail", "JobScreen"),
    "agt-": ("oj_tui.screens.agent_detail", "AgentScreen"),
    "dec-": ("oj_tui.screens.decision_detail", "DecisionScreen"),
}
"""First characters of an id -> module and class of its screen, which takes the id alone."""


async def open_by_id(
    app: OjApp,
    id: str,  # noqa: A002 - the word of all requests
    **how: str,
) -> Screen[object] | None:
    """Show the thing with this full id above the current screen; None if there is no screen for it.

    `how` is given to the screen, such as which part of it to show first.
    """
    if id[:4] not in SCREENS:
        app.notify(f"there is no screen for '{id}'", severity="error", markup=False)
        return None
    module, name = SCREENS[id[:4]]
    screen: Screen[object] = getattr(import_module(module), name)(id, **how)
    await app.push_screen(screen)
    return screen
