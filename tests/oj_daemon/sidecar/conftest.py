"""A sidecar around a shell, shared by the tests of one file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sidecar import Sidecar, sidecar

SHELL = ("bash", "--norc", "--noprofile")
SCREEN = {"idle": "^[$] *$", "working": "^WORK", "prompt": "^ASK", "error": "^ERR", "quiet_ms": 0}
"""The shell's prompt means idle; the rest is said by `echo`."""


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sidecar") / "agent.json"
    path.write_text(json.dumps({"screen": SCREEN}))
    return str(path)


@pytest.fixture(scope="module")
def shell(config: str) -> Iterator[Sidecar]:
    """A prompt `$ ` in a terminal."""
    with sidecar(SHELL, "--agent-config", config, env={"PS1": "$ "}) as made:
        made.shows("$")
        yield made


@pytest.fixture
def clear(shell: Sidecar) -> Sidecar:
    """The same with an empty screen."""
    shell.type("clear")
    shell.becomes("idle")
    return shell


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)
