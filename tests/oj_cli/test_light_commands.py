"""Commands that people call all day load nothing heavy, proved with a daemon to talk to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.modules import modules_of
from tests.support.replies import changes, detail, reply, summary, workspace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.harness import Harness

HEAVY = (
    "asyncio", "ssl", "msgspec", "rich", "textual", "aiohttp", "prometheus_client", "kubernetes", "tree_sitter", "tree_sitter_bash",
    "logging", "dataclasses", "subprocess", "pathlib", "tempfile", "shutil", "psutil", "filelock", "platformdirs",
    "zstandard", "importlib.metadata", "oj_daemon.runbook", "oj_daemon.core", "oj_daemon.store", "tomllib", "unicodedata",
)  # fmt: skip
"""What none of them may load, however indirectly."""


@pytest.mark.parametrize(
    "args",
    [
        ["status"], ["job", "list"], ["job", "show", "x"], ["job", "logs", "x"], ["job", "wait", "x"], ["show", "x"],
        ["logs", "x"], ["logs", "-f", "x"], ["workspace", "list"], ["project", "list"], ["job", "list", "-o", "json"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_question_to_a_warm_daemon_loads_nothing_heavy(
    daemon_cli: Harness, args: list[str]
) -> None:
    done = detail(status="completed")
    daemon = daemon_cli.daemon
    daemon.answer("StatusOverview", reply("Overview", uptime_secs=5, version="1", projects=[]))
    daemon.answer("JobList", reply("Jobs", jobs=[summary()], total=1))
    daemon.answer("JobShow", done)
    for request in ("AgentShow", "DecisionShow", "WorkspaceShow"):
        daemon.refuse(request, "no")
    daemon.answer("JobLogs", reply("Log", log_path="/x", content="a\n", offset=2))
    daemon.answer("Watch", changes(done))
    daemon.answer("WorkspaceList", reply("Workspaces", workspaces=[workspace()], total=1))
    daemon.answer("ProjectList", reply("Projects", projects=[]))
    loaded = modules_of(args, env=daemon_cli.environ, cwd=daemon_cli.work)
    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert loaded.stdout
    assert loaded.any_of(*HEAVY) == set()


def test_without_a_daemon_a_question_is_light_too(cli: Harness, tmp_path: Path) -> None:
    loaded = modules_of(["status"], env=cli.environ, cwd=tmp_path)
    assert (loaded.returncode, loaded.stdout) == (0, "oj daemon: not running\n")
    assert loaded.any_of(*HEAVY) <= {"pathlib"}  # to write cli.log
