"""Everything here needs the real Claude Code; where it is not, the tests say so and are skipped."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.claude.desk import Desk
from tests.claude.real import find, real
from tests.support.agent.session import Session
from tests.support.anthropic.server import ApiServer
from tests.support.world import World

Json = dict[str, Any]
Play = Callable[..., tuple[Session, ApiServer]]
Sit = Callable[[Json], Desk]

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


@pytest.fixture
def sit(program: str) -> Iterator[Sit]:
    """Gives a user of `oj` whose agents talk to a loopback API with a scenario; ends all of it afterwards."""
    # Short, because the path of a Unix socket below it may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="oj-", dir="/tmp"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)

        def begin(scenario: Json) -> Desk:
            api = stack.enter_context(ApiServer(scenario))
            world = World(folder)
            stack.callback(world.close)
            return Desk(world, api, program)

        yield begin
