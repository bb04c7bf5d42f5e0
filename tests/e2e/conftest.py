"""Fixtures of the black-box tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import World


def _short_path() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="oj-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


short_path = pytest.fixture(_short_path, name="short_path")
"""A folder with a short path, for a Unix socket below it may have 107 bytes."""
_shared_path = pytest.fixture(_short_path, name="_shared_path", scope="module")


@pytest.fixture
def world(short_path: Path) -> Iterator[World]:
    """A user with the real `oj`; no daemon runs yet."""
    made = World(short_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def shared_world(_shared_path: Path) -> Iterator[World]:
    """One user for a whole file of tests, with a daemon that runs."""
    made = World(_shared_path)
    try:
        made.oj("daemon", "start")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def shared_world_without_daemon(_shared_path: Path) -> Iterator[World]:
    """One user for a whole file of tests, which starts what it needs."""
    made = World(_shared_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def shop(shared_world: World) -> World:
    """The user of the file, whose project has no runbooks but those that the test writes; jobs of other tests may be there."""
    for path in (shared_world.project / ".oj" / "runbooks").iterdir():
        path.unlink()
    return shared_world
