"""Snapshots of older versions become snapshots of this one, step by step.

Rule: the function of a released version is never edited. That of version n takes the dict of version n and returns
the dict of version n + 1; a field that is only added needs none, because it has a default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from oj_daemon.errors import StoreError

Migration = Callable[[dict[str, object]], dict[str, object]]

VERSION: Final = 1
"""The version of snapshots that this program writes."""
MIGRATIONS: Final[Mapping[int, Migration]] = {}
"""Version -> the function that leads to the next one."""


def check_version(version: int, *, current: int = VERSION, where: str = "") -> None:
    """Refuse a snapshot of a version that this program does not know yet."""
    if version > current:
        raise StoreError(
            f"snapshot version {version} is newer than supported ({current})"
            + (f": {where}" if where else ""),
            code="newer",
            hint="start the daemon of the version that wrote it, or upgrade oj",
        )


def migrate(
    version: int,
    data: dict[str, object],
    *,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    current: int = VERSION,
) -> dict[str, object]:
    """Bring a decoded snapshot of an older version up to the current one."""
    check_version(version, current=current)
    for step in range(version, current):
        migration = migrations.get(step)
        if migration is None:
            raise StoreError(
                f"snapshot version {version} is too old: no migration leads from {step} to {step + 1}",
                code="older",
                hint="start a daemon of an oj release in between first",
            )
        data = migration(data)
    return data
