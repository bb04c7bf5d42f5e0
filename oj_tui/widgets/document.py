"""Text of others that is written in Markdown, made readable.

Rule: whoever decides by it has to see all of it. So whatever would be hidden or would lead elsewhere is shown as it was written:
HTML, links and what they point to, images, entities. Where something would be lost all the same, `shows_all` says so.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from markdown_it import MarkdownIt
from textual.widgets import Markdown

HIDING: Final = ("link", "image", "autolink", "entity", "reference", "html_block", "html_inline")
"""Rules of the parser by which something would not be shown as it was written."""
LANGUAGE: Final = re.compile(r"[a-z+#-]{1,12}")
"""What may stand behind the mark of a block of code and says nothing but how it is coloured."""


def parser() -> MarkdownIt:
    """Reads Markdown, and leaves as it is what would hide anything."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable(list(HIDING))


def shows_all(text: str) -> bool:
    """Whether every word of it would be seen: a table drops cells that have no column, and code what stands behind its mark."""
    shown: Counter[str] = Counter()
    for token in parser().parse(text):
        if token.type in ("fence", "code_block"):
            shown.update(_words(token.content))
            if LANGUAGE.fullmatch(token.info.strip()):
                shown.update(_words(token.info))
        elif token.type == "list_item_open":
            shown.update(_words(token.info))
        for child in token.children or ():
            shown.update(_words(child.content))
    return not Counter(_words(text)) - shown


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text)


class Document(Markdown):
    """A text to be read."""

    def __init__(self, text: str) -> None:
        super().__init__(text, parser_factory=parser, open_links=False)
