"""One option of a dialog on its way to being confirmed: move, look, look again, confirm.

Rule: pure. Never a second key before the first has shown its effect, and never Enter on a picture that was seen only
once: the default of some dialogs ends the program.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from oj_daemon.drivers.base import Dialog

MOVES: Final = 40
PATIENCE: Final = 5
"""So many moves' time a key is given to show its effect before it is typed again."""


class Selection(msgspec.Struct):
    """Which option of which dialog, and how far it has come."""

    name: str
    option: int
    """From 1; -1 for a page without options, which Enter leaves."""
    source: str
    """Who wants it: api or groom."""
    choice: str
    """Its label, for the record."""
    moves: int = 0
    was_selected: int = -1
    is_steady: bool = False
    next_at: int = 0

    @property
    def has_moved(self) -> bool:
        """Whether any key was typed."""
        return self.moves > 0

    def step(
        self, dialog: Dialog, now: int, move_ms: int
    ) -> Literal["wait", "look", "type", "give up"]:
        """Return what to do, now that the dialog stands like this."""
        if dialog.name != self.name or now < self.next_at:
            return "wait"
        has_followed = dialog.selected != self.was_selected
        if self.moves and not has_followed and now < self.next_at + PATIENCE * move_ms:
            return "look"
        is_there = self.option < 0 or dialog.selected == self.option
        if is_there and not self.is_steady:
            self.is_steady = True
            self.next_at = now + move_ms
            return "look"
        self.is_steady = False
        if self.moves >= MOVES:
            return "give up"
        self.moves += 1
        self.was_selected = dialog.selected
        self.next_at = now + move_ms
        return "type"
