"""Lines of styled pieces, as the functions of render make them.

Rule: knows pieces, never what they mean; what was shown already costs nothing to show again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.widgets import Static

from oj_tui.widgets.walk import STYLE_CLASSES

Piece = tuple[str, str]


class Lines(Static):
    """Lines that break where the room ends."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(STYLE_CLASSES)

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - the library's word
        super().__init__("", markup=False, id=id, classes=classes)
        self._put: list[list[Piece]] = []

    def put(self, lines: Sequence[Sequence[Piece]]) -> None:
        """Show these lines."""
        given = [list(line) for line in lines]
        if given != self._put:
            self._put = given
            self._write()

    def notify_style_update(self) -> None:
        """Another theme, other colours."""
        super().notify_style_update()
        if self._put:
            self._write()

    def _write(self) -> None:
        text = Text()
        for at, line in enumerate(self._put):
            if at:
                text.append("\n")
            for piece, name in line:
                # A whole style, as in Table: a share of the contrast to what is behind cannot be laid over another one.
                text.append(piece, self.get_component_rich_style(f"style--{name or 'plain'}"))
        self.update(text)
