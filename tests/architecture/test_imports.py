"""What a command line loads, proved in a real process: contracts in pyproject.toml cannot see a deferred import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oj_cli.main import COMMANDS
from tests.support.modules import ROOT, modules_of

HEAVY = (
    "asyncio",
    "ssl",
    "textual",
    "rich",
    "aiohttp",
    "kubernetes",
    "prometheus_client",
    "importlib.metadata",
    "oj_daemon.runbook.hcl",
)
"""What no quick command may load, however indirectly."""


@pytest.mark.parametrize("args", [[], ["--help"], ["help"]])
def test_the_overview_loads_the_table_and_nothing_else(args: list[str]) -> None:
    loaded = modules_of(args)
    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert loaded.ours() == {"oj_cli.main"}
    assert loaded.any_of("click", *HEAVY) == set()


def test_the_version_loads_the_table_and_the_build_identity() -> None:
    loaded = modules_of(["--version"])
    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert loaded.ours() <= {"oj_cli.main", "oj_daemon.build", "oj_daemon._build"}
    assert loaded.any_of("click", *HEAVY) == set()


def test_an_overview_that_needs_click_loads_the_lazy_group_but_no_command() -> None:
    loaded = modules_of(["--project", "x", "--help"])
    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert loaded.ours() == {"oj_cli.main", "oj_cli.lazy", "oj_cli.interrupt"}
    assert loaded.any_of(*HEAVY) == set()


def test_an_unknown_command_loads_no_command() -> None:
    loaded = modules_of(["nonsense"])
    assert loaded.returncode == 2
    assert {name for name in loaded.ours() if name.startswith("oj_cli.commands")} == set()
    assert loaded.any_of(*HEAVY) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_loads_that_command_and_nothing_heavy(name: str) -> None:
    loaded = modules_of([name, "--help"])
    assert (loaded.returncode, loaded.stderr) == (0, "")
    module = COMMANDS[name][0].partition(":")[0]
    assert {other for other in loaded.ours() if other.startswith("oj_cli.commands")} == {module}
    assert loaded.any_of(*HEAVY) == set()


def test_a_daemon_without_an_http_port_loads_neither_its_server_nor_its_figures() -> None:
    program = "import sys, oj_daemon.main, oj_daemon.works; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "oj_daemon.works" in loaded
    assert not loaded & {"aiohttp", "prometheus_client", "oj_daemon.health", "oj_daemon.metrics"}
