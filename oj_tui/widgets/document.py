"""Text of others that is written in Markdown, made readable.

Rule: whoever decides by it has to see all of it. So whatever would be hidden or would lead elsewhere is shown as it was written:
HTML, links and what they point to, images, entities.
"""

from __future__ import annotations

from typing import Final

from markdown_it import MarkdownIt
from textual.widgets import Markdown

HIDING: Final = ("link", "image", "autolink", "entity", "reference", "html_block", "html_inline")
"""Rules of the parser by which something would not be shown as it was written."""


def parser() -> MarkdownIt:
    """Reads Markdown, and leaves as it is what would hide anything."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable(list(HIDING))


class Document(Markdown):
    """A text to be read."""

    def __init__(self, text: str) -> None:
        super().__init__(text, parser_factory=parser, open_links=False)
