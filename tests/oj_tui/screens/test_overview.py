from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from oj_tui.app import OjApp
from oj_tui.screens.job import JobList
from oj_tui.widgets.table import Table
from tests.support import screens
from tests.support.fake_feed import FakeFeed
from tests.support.live_view import play
from tests.support.plain_screen import PlainScreen
from tests.support.replies import DECISION, JOB, NOW, OTHER, agent, decision, summary, workspace

KNOWN: dict[str, Any] = {
    "jobs": [
        summary(status="waiting"),
        summary(id=OTHER, name="deploy", status="failed", reason="step test: exit 3"),
        summary(id="job-3", name="nightly", project="mail", status="suspended", reason="by request"),
        summary(id="job-4", name="import", project="mail", status="pending"),
    ],
    "agents": [agent()],
    "decisions": [
        decision(),
        decision(id="dec-2", source="gate", summary="deploy to production?", created_at_ms=NOW - 1000,
                 deadline_at_ms=NOW + 90_000),
    ],
    "workspaces": [workspace(owner="job:job-4", waits_for="no node has room for 4 CPUs")],
}  # fmt: skip


def test_what_needs_a_human_stands_first_and_every_project_below() -> None:
    async def scenario(app: OjApp, _pilot: Pilot[None], _feed: FakeFeed) -> None:
        screens.compare(app, "overview")

    play(scenario, known=KNOWN, start="overview")


def test_where_nothing_needs_a_human_it_says_so() -> None:
    async def scenario(app: OjApp, _pilot: Pilot[None], _feed: FakeFeed) -> None:
        assert "Nothing needs you." in screens.text(app)
        assert "No jobs yet; 'oj run' lists what can be run." in screens.text(app)

    play(scenario, known={}, start="overview")


@pytest.mark.usefixtures("plain_screens")
def test_enter_opens_the_thing() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        opened = []
        for keys in ([], ["j", "j"]):
            await pilot.press(*keys, "enter")
            assert isinstance(app.screen, PlainScreen)
            opened.append(app.screen.shows)
            await pilot.press("escape")
        assert opened == [DECISION, OTHER]

    play(scenario, known=KNOWN, start="overview")


def test_walking_on_leads_into_the_projects_and_back() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        needs, projects = app.screen.query(Table)
        assert needs.has_focus
        await pilot.press("G", "j")
        assert projects.has_focus
        await pilot.press("j", "j", "j")
        assert (projects.key, projects.has_focus) == ("shop", True)
        await pilot.press("k", "k")
        assert needs.has_focus

    play(scenario, known=KNOWN, start="overview")


def test_a_project_opens_the_list_of_its_jobs() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("tab", "enter")
        await pilot.pause()
        assert isinstance(app.screen, JobList)
        assert app.screen.query_one(Input).value == "project:mail"
        assert app.screen.query_one(Table).count == 2

    play(scenario, known=KNOWN, start="overview")


def test_a_project_opens_its_list_also_where_a_job_was_left_open() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("2")
        await app.push_screen(PlainScreen(JOB))
        await pilot.press("1", "tab", "enter")
        await pilot.pause()
        assert isinstance(app.screen, JobList)
        assert app.screen.query_one(Input).value == "project:mail"

    play(scenario, known=KNOWN, start="overview")


def test_a_decision_that_was_answered_goes_away() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        feed.follows[0].send(jobs=[summary(id=JOB, status="running")])
        await pilot.pause()
        assert "Decisions (2)" not in screens.text(app)

    play(scenario, known=KNOWN, start="overview")
