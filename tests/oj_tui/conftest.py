from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_view import plain_screens

__all__ = ["plain_screens"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, because a socket's path has to be."""
    path = Path(tempfile.mkdtemp(prefix="oj-", dir="/tmp"))
    yield path
    shutil.rmtree(path)
