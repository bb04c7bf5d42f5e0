"""Names made of words: the slug that a job's display name and folders are built from.

Rule: pure. A slug has only `a-z`, `0-9` and single dashes, so it is safe as a folder, branch or pod name.
"""

from __future__ import annotations

import re
from typing import Final

SLUG_LENGTH: Final = 28
"""Longest slug; with a dash and a nonce it stays readable in a table and legal as a label."""

# Words that say little, and what contractions leave behind when their apostrophe becomes a dash.
_STOP_WORDS: Final = frozenset(
    """
    a an the
    am are be been being did do does had has have having is was were
    can could may might must shall should will would
    about above after against among around as at before behind below between by down during for from in into of off on
    onto out over per through to toward under until up upon via with within without
    and because but if nor or so than that though unless when where whether which while yet
    he her hers him his i it its me mine my our ours she their theirs them they this those these us we who whom whose you
    your yours
    again also even ever here how just more most much not now only quite rather really some still such then there too very
    why
    aren couldn d didn doesn don hadn hasn haven isn ll m mustn re s shouldn t ve wasn weren won wouldn
    """.split()  # noqa: SIM905 - a list of words reads as text
)


def slug(text: str) -> str:
    """The telling words of a text, joined by dashes; empty if there are none."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    kept: list[str] = []
    for word in words:
        if word not in _STOP_WORDS and kept[-1:] != [word]:
            kept.append(word)
    shortened = "-".join(kept)
    if len(shortened) <= SLUG_LENGTH:
        return shortened
    whole, dash, _ = shortened[: SLUG_LENGTH + 1].rpartition("-")
    return whole if dash else shortened[:SLUG_LENGTH]
