"""PLACEHOLDER daemon."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from oj_tui.screens.page import Page


class DaemonScreen(Page):
    """PLACEHOLDER."""

    def body(self) -> ComposeResult:
        """PLACEHOLDER."""
        yield Static("daemon")

    def fill(self) -> None:
        """PLACEHOLDER."""
