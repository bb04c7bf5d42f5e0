"""What tests want to happen to pods that are still to come: no node, no image, slowly, not before it is allowed.

Rule: a rule holds until it is lifted; whoever waits looks again with every change.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

KINDS = ("unschedulable", "image", "slow", "hold", "broken")


class Rule(NamedTuple):
    """One of them."""

    kind: str
    match: str = ""
    """What the name of the pod has in it, or with `image` and `broken` the name of the image."""
    message: str = ""
    seconds: float = 0.0


class Rules:
    """All that hold."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._change = asyncio.Event()

    def add(self, kind: str, match: str = "", message: str = "", seconds: float = 0.0) -> None:
        """unschedulable: no node; image: cannot be pulled; broken: has no program; slow: so many seconds before its
        containers are made; hold: not made before it is lifted.
        """
        if kind not in KINDS:
            raise ValueError(kind)
        self._rules.append(Rule(kind, match, message, seconds))
        self.changed()

    def lift(self, kind: str = "", match: str = "") -> None:
        """Let rules hold no more."""
        self._rules = [
            each
            for each in self._rules
            if (kind or each.kind) != each.kind or match not in each.match
        ]
        self.changed()

    def find(self, kind: str, name: str) -> Rule | None:
        """The rule of that kind for a name."""
        return next(
            (each for each in self._rules if each.kind == kind and each.match in name), None
        )

    def changed(self) -> None:
        """Let those who wait look again."""
        self._change.set()
        self._change = asyncio.Event()

    async def wait(self) -> None:
        """Until something has changed."""
        await self._change.wait()
