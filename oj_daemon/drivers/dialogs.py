"""The dialogs that Claude Code shows around a session, as data.

Rule: a dialog is recognised when two of its markers are on the screen. `choose` names the option with which it may be
dismissed unasked, by its label and never by its place: the default of some of these ends the program.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from oj_daemon.drivers.base import PromptKind


class Known(msgspec.Struct, frozen=True):
    """One known dialog."""

    name: str
    kind: PromptKind
    markers: tuple[str, ...]
    choose: str = ""
    """Pattern of the label; "" for never."""


START_UP: Final = (
    Known(
        "trust",
        PromptKind.PERMISSION,
        (
            "Accessing workspace:",
            "Is this a project you created or one you trust",
            "Yes, I trust this folder",
            "Do you trust the files in this folder",
        ),
        choose=r"^yes\b",
    ),
    Known(
        "api_key",
        PromptKind.SETUP,
        ("Detected a custom API key", "Do you want to use this API key?", "No (recommended)"),
        choose=r"^yes\b",
    ),
    Known(
        "bypass_permissions",
        PromptKind.SETUP,
        ("Bypass Permissions mode", "Yes, I accept", "you accept all responsibility"),
        choose=r"^yes, i accept",
    ),
    Known(
        "theme_picker",
        PromptKind.SETUP,
        ("Choose the text style", "Dark mode", "Light mode", "looks best with your terminal"),
        choose=r"dark mode$",
    ),
    Known(
        "terminal_setup",
        PromptKind.SETUP,
        ("terminal setup?", "Yes, use recommended settings", "No, maybe later"),
        choose=r"^no\b",
    ),
    Known(
        "settings_error",
        PromptKind.SETUP,
        ("Settings Error", "Exit and fix manually", "Continue without these settings"),
        choose=r"^continue\b",
    ),
    Known(
        "login_method",
        PromptKind.SETUP,
        ("Select login method", "Claude account with subscription", "Anthropic Console account"),
    ),
    Known(
        "oauth_login",
        PromptKind.SETUP,
        ("Paste code here if prompted", "Browser didn't open", "/oauth/authorize"),
    ),
)

PLAIN: Final = (
    Known("login_success", PromptKind.SETUP, ("Login successful", "Press Enter to continue")),
    Known("security_notes", PromptKind.SETUP, ("Security notes", "Press Enter to continue")),
)
"""Pages without options, which Enter leaves."""


def known_dialog(text: str) -> Known | None:
    """Return the start-up dialog that is on a screen with this text."""
    flat = " ".join(text.split())
    for known in (*START_UP, *PLAIN):
        if sum(marker in flat for marker in known.markers) >= 2:
            return known
    return None


def is_plain(name: str) -> bool:
    """Return whether a dialog is a page without options, which Enter leaves."""
    return any(known.name == name for known in PLAIN)


def option_to_choose(name: str, options: tuple[str, ...]) -> int:
    """Return the number of the option that dismisses a dialog; -1: it has none and Enter does; 0: never."""
    for known in (*START_UP, *PLAIN):
        if known.name != name:
            continue
        if known in PLAIN:
            return -1
        if not known.choose:
            return 0
        pattern = re.compile(known.choose, re.IGNORECASE)
        return next((i for i, label in enumerate(options, 1) if pattern.search(label)), 0)
    return 0
