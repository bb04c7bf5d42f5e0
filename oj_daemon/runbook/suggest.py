"""The nearest valid spelling of a word that is not known.

Rule: suggest only what is plausibly meant: within two edits (or a third of the word), or one a prefix of the other.
"""

from __future__ import annotations

from collections.abc import Iterable

MIN_PREFIX = 2


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


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant."""
    best: tuple[int, str] | None = None
    limit = max(2, len(word) // 3)
    for name in known:
        if abs(len(name) - len(word)) <= limit and len(word) <= 100:
            steps = distance(word.lower(), name.lower())
            # two edits turn any short word into any other
            if steps <= min(limit, max(len(word), len(name)) - 1) and (
                best is None or steps < best[0]
            ):
                best = (steps, name)
    if best is not None:
        return best[1]
    if len(word) >= MIN_PREFIX:
        for name in known:
            if name.startswith(word) or (len(name) >= MIN_PREFIX and word.startswith(name)):
                return name
    return None


def did_you_mean(word: str, known: Iterable[str], what: str = "valid here") -> str:
    """A hint: the nearest spelling, else all there are, else nothing."""
    names = list(known)
    near = nearest(word, names)
    if near is not None:
        return f"did you mean `{near}`?"
    if not names:
        return ""
    shown = ", ".join(f"`{name}`" for name in names[:24])
    return f"{what}: {shown}" + (" ..." if len(names) > 24 else "")
