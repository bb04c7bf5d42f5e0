"""The short forms that find out what an id means; those that only repeat a job verb are tested with it."""

from __future__ import annotations

import pytest

from tests.support.harness import Harness
from tests.support.replies import (
    AGENT,
    DECISION,
    JOB,
    WORKSPACE,
    agent,
    decision,
    detail,
    workspace,
)

REQUESTS = ("JobShow", "AgentShow", "DecisionShow", "WorkspaceShow")


@pytest.fixture(autouse=True)
def _nothing_is_known(cli: Harness) -> None:
    for request in REQUESTS:
        cli.daemon.refuse(request, "not found")


def test_show_finds_an_agent_by_its_own_id(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("AgentShow", agent())
    assert daemon_cli.oj("show", "7m2", "-o", "json").json["id"] == AGENT
    assert daemon_cli.oj("show", "agt-7m", "-o", "json").json["id"] == AGENT


def test_show_takes_an_agent_that_was_found_by_its_job_for_no_agent(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("AgentShow", agent())
    assert daemon_cli.oj("show", "4f9", "-o", "json").json["id"] == JOB


def test_show_finds_a_decision(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("DecisionShow", decision())
    assert daemon_cli.oj("show", "k3j", "-o", "json").json["id"] == DECISION


def test_show_finds_a_job(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.refuse("WorkspaceShow", "Workspace not found")
    done = daemon_cli.oj("show", "4f9")
    assert done == daemon_cli.oj("job", "show", "4f9")
    assert (done.code, done.out.splitlines()[0]) == (0, f"Job:       {JOB}")


def test_show_finds_a_workspace(daemon_cli: Harness) -> None:
    daemon_cli.daemon.refuse("JobShow", "Job not found")
    daemon_cli.daemon.answer("WorkspaceShow", workspace())
    assert daemon_cli.oj("show", "8a7", "-o", "json").json["id"] == WORKSPACE


def test_an_id_that_means_two_things_lists_the_long_forms(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("WorkspaceShow", workspace())
    assert daemon_cli.oj("show", "x") == (
        1,
        "",
        f"Error: 'x' is ambiguous; did you mean\n  oj job show {JOB}\n  oj workspace show {WORKSPACE}\n",
    )
    assert daemon_cli.oj("show", JOB).code == 0


def test_an_id_that_means_several_jobs_names_them(daemon_cli: Harness) -> None:
    daemon_cli.daemon.refuse("JobShow", "'4' is ambiguous: job-4a, job-4b", code="ambiguous")
    daemon_cli.daemon.refuse("WorkspaceShow", "Workspace not found")
    done = daemon_cli.oj("show", "4")
    assert done.code == 1
    assert "job-4a, job-4b" in done.err


def test_an_id_that_means_nothing_fails(daemon_cli: Harness) -> None:
    daemon_cli.daemon.refuse("JobShow", "Job not found")
    daemon_cli.daemon.refuse("WorkspaceShow", "Workspace not found")
    assert daemon_cli.oj("show", "x") == (
        1,
        "",
        """\
Error: no entity found matching 'x'
Hint: oj job list; oj agent list; oj decision list --all; oj workspace list
""",
    )
    assert daemon_cli.oj("show", "x", "-o", "json").json["error"]["code"] == "not_found"


def test_show_without_a_daemon_fails(cli: Harness) -> None:
    assert cli.oj("show", "x") == (1, "", "Error: Daemon not running\nHint: oj daemon start\n")
    assert (cli.state / "cli.log").read_text().count("\n") == 1
