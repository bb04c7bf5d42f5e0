"""In which place a run was begun: a mark in its folder, written before it can begin.

Rule: a run that may have begun in one place is never begun again in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from oj_daemon.store.files import make_folder, replace_file, store_error


def begun_in(folder: Path) -> dict[str, str]:
    """The route of the place in which the run of a folder was begun; empty when in none. Raises StoreError."""
    path = folder / "place"
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}
    except OSError as error:
        raise store_error(error, "read", path) from error


def note_route(folder: Path, route: Mapping[str, str]) -> None:
    """Remember in which place a run is begun."""
    try:
        make_folder(folder)
        replace_file(folder / "place", msgspec.json.encode(dict(route)), durable=True)
    except OSError as error:
        raise store_error(error, "write", folder / "place") from error
