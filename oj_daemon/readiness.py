"""Whether the daemon may be given work: conditions by name, each true or not for a reason; and whether it is past helping.

Rule: only the standard library, and no question is asked here: whoever knows a condition sets it, whenever it changes. Reasons
are shown to everybody who reaches the HTTP port, so they hold no secrets.
"""

from __future__ import annotations

from typing import NamedTuple


class Condition(NamedTuple):
    """One thing that has to be so before the daemon is ready."""

    name: str
    ok: bool
    reason: str
    """Why not, or why it is so where that is worth a word."""


class Readiness:
    """All conditions; belongs to the event loop's thread."""

    def __init__(self, *names: str) -> None:
        self._conditions = {name: Condition(name, False, "not yet") for name in names}
        self.broken = ""
        """Why only a new start helps; empty while it lives. Nothing outside of the daemon is a reason."""

    def set(self, name: str, ok: bool, reason: str = "") -> None:
        """Say how a condition is; a new name is one more that has to be met."""
        self._conditions[name] = Condition(name, ok, reason)

    def fail(self, reason: str) -> None:
        """From here on only a new start helps."""
        self.broken = reason

    def report(self) -> tuple[Condition, ...]:
        """Every condition, in the order in which they were first named."""
        return tuple(self._conditions.values())

    def is_met(self, *names: str) -> bool:
        """Whether these conditions are met; one that nobody named is not."""
        return all(name in self._conditions and self._conditions[name].ok for name in names)

    @property
    def is_ready(self) -> bool:
        """Whether it lives and all of them are met."""
        return not self.broken and all(condition.ok for condition in self._conditions.values())

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Why it is not ready: `name: reason` of each condition that is not met."""
        unmet = tuple(f"{name}: {reason}" for name, ok, reason in self.report() if not ok)
        return (*unmet, f"broken: {self.broken}") if self.broken else unmet
