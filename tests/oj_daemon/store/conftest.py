"""Daemons' logs that are closed again, and small disks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "oj-test", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def read_only_disk(small_disk: Path) -> Path:
    """The same, to be remounted read-only by the test's first line."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    return small_disk
