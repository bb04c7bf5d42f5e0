"""`oj project list`."""

from __future__ import annotations

from tests.support.harness import Harness
from tests.support.replies import reply, view

SHOP = view(
    "ProjectSummary",
    name="shop",
    root="/home/me/shop",
    active_jobs=12,
    active_agents=1,
    workers=2,
    crons=0,
)
STORE = view(
    "ProjectSummary", name="store", root="/s", active_jobs=0, active_agents=0, workers=0, crons=3
)


def test_projects_are_listed_with_what_they_have(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("ProjectList", reply("Projects", projects=[SHOP, STORE]))
    assert daemon_cli.oj("project", "list") == (
        0,
        (
            "NAME   ROOT           JOBS  WORKERS  AGENTS  CRONS\n"
            "shop   /home/me/shop    12        2       1      0\n"
            "store  /s                0        0       0      3\n"
        ),
        "",
    )
    assert daemon_cli.oj("project", "list", "-o", "json").json == [SHOP, STORE]
    assert daemon_cli.oj("project", "list", "-o", "json", "--project", "store").json == [STORE]


def test_no_projects_is_a_sentence(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("ProjectList", reply("Projects", projects=[]))
    assert daemon_cli.oj("project", "list") == (0, "No active projects\n", "")
    assert daemon_cli.oj("project", "list", "-o", "json") == (0, "[]\n", "")


def test_without_a_daemon_the_answer_is_that_none_runs(cli: Harness) -> None:
    assert cli.oj("project", "list") == (0, "oj daemon: not running\n", "")
    assert cli.oj("project", "list", "-o", "json").json == {"status": "not_running"}
