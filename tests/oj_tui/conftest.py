from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, because a socket's path has to be."""
    path = Path(tempfile.mkdtemp(prefix="oj-", dir="/tmp"))
    yield path
    shutil.rmtree(path)
