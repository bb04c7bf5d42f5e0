"""Fixtures of the black-box tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import World


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short path, for a Unix socket below it may have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="oj-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(short_path: Path) -> Iterator[World]:
    """A user with the real `oj`; no daemon runs yet."""
    made = World(short_path)
    try:
        yield made
    finally:
        made.close()
