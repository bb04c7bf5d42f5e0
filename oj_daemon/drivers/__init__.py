"""What runs inside of a sidecar: one file for each agent program, text in, values out.

Rule: a driver reads what its program says and writes what its program understands. It decides nothing, remembers
nothing and touches nothing; whoever needs one asks `load_driver` by name, and only then is its file imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from oj_daemon.drivers.base import Driver
from oj_daemon.errors import Rejected

DRIVERS: Final = {
    "claude": "oj_daemon.drivers.claude:DRIVER",
    "generic": "oj_daemon.drivers.generic:DRIVER",
}
PROGRAMS: Final = {"claude": "claude", "claudeless": "claude"}
"""The programs that we know by the name of their file; anything else is `generic`."""


def driver_names() -> list[str]:
    """Return the names that an agent may ask for; imports no driver."""
    return list(DRIVERS)


def driver_for(program: str) -> str:
    """Return the name of the driver for a program, given its path or file name."""
    return PROGRAMS.get(program.rpartition("/")[2], "generic")


def load_driver(name: str) -> Driver:
    """Import one driver."""
    target = DRIVERS.get(name)
    if target is None:
        known = ", ".join(DRIVERS)
        msg = f"there is no driver for an agent called {name!r}"
        raise Rejected(msg, code="not_found", hint=f"drivers: {known}")
    module, _, attribute = target.partition(":")
    return cast("Driver", getattr(import_module(module), attribute))
