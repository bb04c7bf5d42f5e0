"""Who asks, and what they may.

Rule: pure. A connection has one principal: the owner of the state folder on the unix socket, or whom its token names. The full
token stays with people; whatever runs on behalf of a job has one that reaches its own project and cannot end other people's
work (system.md D13).
"""

from __future__ import annotations

from typing import Final

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """Whoever is at the other end of a connection."""

    name: str
    """For logs, and for decisions: who made them."""
    is_full: bool = False
    """May do everything; the fields below do not matter then."""
    project: str = ""
    """The only project that it reaches; empty: every one."""
    verbs: frozenset[str] = frozenset()
    job_id: str = ""
    """The job on whose behalf it acts, for tokens of steps and agents."""


OWNER: Final = Principal("owner", is_full=True)
"""Who connects to the unix socket as the user that the daemon runs as."""
FULL_TOKEN: Final = Principal("token", is_full=True)
"""Who knows the daemon's own token."""
