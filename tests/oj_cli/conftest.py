"""Fixtures of the command line's tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness import Harness
from tests.support.replies import NOW


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    """`oj` in an empty project, no daemon running, at a fixed moment in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time_ns", lambda: NOW * 1_000_000)
    harness = Harness(tmp_path, monkeypatch)
    yield harness
    harness.close()
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def daemon_cli(cli: Harness) -> Harness:
    """The same with a fake daemon listening."""
    cli.daemon.start()
    return cli
