"""What holds for every test: nothing of this machine's own `oj` is seen or touched.

Rule: before any test is collected, all OJ_ variables of the caller are gone and the default state folder is a temporary
one; whatever lies in tests/e2e carries the marker `e2e`.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
KEPT = "OJ_TEST_"
"""What tests are told: the mark by which scripts/check finds processes that were left behind, where backends are."""

_state = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Cut the tests off from the caller's daemon; once in each worker of xdist."""
    for name in [
        name for name in os.environ if name.startswith("OJ_") and not name.startswith(KEPT)
    ]:
        del os.environ[name]
    # Whatever runs in the background of a script ignores Ctrl-C, and so would every program that a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Short, because the path of a Unix socket below it may have 107 bytes.
    config.stash[_state] = os.environ["OJ_STATE_DIR"] = tempfile.mkdtemp(prefix="oj-", dir="/tmp")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder made above."""
    shutil.rmtree(config.stash[_state], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the black-box tests by where they lie."""
    for item in items:
        if HERE / "e2e" in item.path.parents:
            item.add_marker("e2e")
