"""Everything here needs the real Claude Code; where it is not, the tests say so and are skipped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.claude.real import find, real
from tests.support.agent.session import Session
from tests.support.anthropic.server import ApiServer

Json = dict[str, Any]
Play = Callable[..., tuple[Session, ApiServer]]

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests by where they lie."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("claude")


@pytest.fixture(scope="session")
def program() -> str:
    """The path of the real program."""
    found = find()
    if found is None:
        pytest.skip(
            "claude is not installed: scripts/lib/claude.sh installs it, OJ_TEST_CLAUDE names it"
        )
    return found


@pytest.fixture
def play(tmp_path: Path, program: str) -> Iterator[Play]:
    """Starts the real program against a loopback API with a scenario; ends both afterwards."""
    with contextlib.ExitStack() as stack:

        def begin(scenario: Json, *arguments: str, start: bool = True) -> tuple[Session, ApiServer]:
            api = stack.enter_context(ApiServer(scenario))
            session = stack.enter_context(real(program, tmp_path / "claude", api))
            if start:
                session.start("--permission-mode", "default", *arguments)
            return session, api

        yield begin
