"""Daemons' logs that are closed again, and small disks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import disks
from tests.support.store import Daemon


@pytest.fixture
def start() -> Iterator[Callable[..., Daemon]]:
    """Start daemons; all logs are closed at the end of the test."""
    daemons: list[Daemon] = []

    def open_one(folder: Path, **options: int) -> Daemon:
        daemons.append(Daemon(folder, **options))  # type: ignore[arg-type]  # bool is an int
        return daemons[-1]

    yield open_one
    for daemon in daemons:
        daemon.wal.close()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users may walk into; pytest closes its own ones to them."""
    with tempfile.TemporaryDirectory(prefix="oj-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with disks.small_disk(tmp_path / "disk", "256k") as disk:
        yield disk


@pytest.fixture
def read_only_disk(small_disk: Path) -> Path:
    """One that takes no writes."""
    disks.make_read_only(small_disk)
    return small_disk
