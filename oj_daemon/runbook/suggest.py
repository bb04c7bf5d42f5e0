"""The nearest valid spelling of a word that is not known.

Rule: suggest only what is plausibly meant: within two edits (or a third of the word), or one a prefix of the other.
"""

from __future__ import annotations

from collections.abc import Collection

MIN_PREFIX = 2
MAX_WORD = 100
"""What is longer is no spelling mistake, and comparing it would take long."""


def distance(left: str, right: str) -> int:
    """How many insertions, deletions, replacements or swaps of neighbours lead from one word to the other."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        above, row, older = row, [i], before
        for j, b in enumerate(right, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if older and i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        before = above
    return row[-1]


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known word that was most likely meant."""
    if len(word) > MAX_WORD:
        return None
    best: tuple[int, str] | None = None
    limit = max(2, len(word) // 3)
    for name in known:
        if abs(len(name) - len(word)) <= limit:
            steps = distance(word.lower(), name.lower())
            # Two edits turn any short word into any other.
            is_like = steps <= limit and steps * 2 < max(len(word), len(name))
            if is_like and (best is None or steps < best[0]):
                best = (steps, name)
    if best is not None:
        return best[1]
    if len(word) >= MIN_PREFIX:
        for name in known:
            if name.startswith(word) or (len(name) >= MIN_PREFIX and word.startswith(name)):
                return name
    return None


def did_you_mean(word: str, known: Collection[str], what: str = "valid here") -> str:
    """A hint: the nearest spelling, else all there are, else nothing."""
    near = nearest(word, known)
    if near is not None:
        return f"did you mean `{near}`?"
    if not known:
        return ""
    shown = ", ".join(f"`{name}`" for name in list(known)[:24])
    return f"{what}: {shown}" + (" ..." if len(known) > 24 else "")
