from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from oj_daemon.errors import OjError
from oj_tui.app import OjApp
from oj_tui.screens.confirm import Confirm
from oj_tui.widgets.table import Table
from tests.support import screens
from tests.support.fake_feed import FakeFeed
from tests.support.live_view import answered, play, told
from tests.support.plain_screen import PlainScreen
from tests.support.replies import (
    DECISION,
    JOB,
    NOW,
    OTHER,
    Message,
    agent,
    decision,
    reply,
    summary,
)

THIRD = "job-t1t2t3t4t5t6t7t8"
KNOWN: dict[str, Any] = {
    "jobs": [
        summary(status="failed", reason="step test: exit 3", retries=2),
        summary(id=OTHER, name="deploy", updated_at_ms=NOW - 1000, status="waiting"),
        summary(id=THIRD, name=THIRD, kind="nightly", project="mail", updated_at_ms=NOW - 9000),
    ]
}


def names(app: OjApp) -> list[str]:
    """The second word of each row of the table, and the first of a line between."""
    table = app.screen.query_one(Table)
    lines = screens.lines(app)[table.region.y + 1 : table.region.y + 1 + table.count]
    return [words[1] if len(words) > 2 else words[0] for words in (line.split() for line in lines)]


def test_jobs_stand_in_a_table_the_newest_change_first() -> None:
    async def scenario(app: OjApp, _pilot: Pilot[None], _feed: FakeFeed) -> None:
        screens.compare(app, "jobs")

    play(scenario, known=KNOWN)


def test_where_there_is_no_job_the_list_says_how_to_get_one() -> None:
    async def scenario(app: OjApp, _pilot: Pilot[None], _feed: FakeFeed) -> None:
        assert "No jobs yet; 'oj run' lists what can be run." in screens.text(app)

    play(scenario, known={})


# Order, groups, filter


def test_s_sorts_by_the_next_column_and_s_with_shift_reverses() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        assert "AGE ▲" in screens.lines(app)[1]
        await pilot.press("s")
        assert "NAME ▲" in screens.lines(app)[1]
        assert names(app) == ["deploy", "fix-login", "nightly"]
        await pilot.press("S")
        assert "NAME ▼" in screens.lines(app)[1]
        assert names(app) == ["nightly", "fix-login", "deploy"]
        await pilot.press("s")
        assert "PROJECT ▲" in screens.lines(app)[1]
        await pilot.press("s", "s", "s")
        assert "TRY ▼" in screens.lines(app)[1]
        await pilot.press("s")
        assert "AGE ▲" in screens.lines(app)[1]

    play(scenario, known=KNOWN)


def test_a_click_on_a_title_sorts_and_a_second_one_reverses() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        for expected in ("NAME ▲", "NAME ▼"):
            await pilot.click(Table, offset=(11, 0))
            assert expected in screens.lines(app)[1]
        await pilot.click(Table, offset=(2, 0))
        assert "NAME ▼" in screens.lines(app)[1]

    play(scenario, known=KNOWN)


def test_b_puts_jobs_together_by_the_next_field() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("b")
        screens.compare(app, "jobs_by_project")
        await pilot.press("b", "b", "b")
        assert names(app) == ["deploy", "fix-login", "nightly"]

    play(scenario, known=KNOWN)


def test_a_filter_is_followed_letter_by_letter_and_says_how_many_are_left() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("slash", "s", "h", "o")
        assert names(app) == ["deploy", "fix-login"]
        await pilot.press("p", "space", "e", "x", "i", "t")
        assert names(app) == ["fix-login"]
        assert " 1 of 3 jobs · filter 'shop exit' (Esc clears)" in screens.lines(app)
        await pilot.press("enter", "j")
        assert app.screen.query_one(Table).has_focus
        assert app.screen.query_one(Input).display
        await pilot.press("escape")
        assert not app.screen.query_one(Input).display
        assert names(app) == ["deploy", "fix-login", "nightly"]

    play(scenario, known=KNOWN)


def test_a_filter_that_nothing_matches_says_how_to_see_all() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("slash", "x", "y", "enter", "enter", "c")
        assert "No job matches 'xy'; Esc shows all." in screens.text(app)
        assert told(app) == ["there is no job under the cursor"]

    play(scenario, known=KNOWN)


def test_escape_while_typing_clears_the_filter() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("slash", "x", "escape")
        assert app.screen.query_one(Table).has_focus
        assert app.screen.query_one(Table).count == 3

    play(scenario, known=KNOWN)


def test_a_filter_holds_for_jobs_that_come_later() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        await pilot.press("slash", *"login", "enter")
        feed.follows[0].send(jobs=[summary(id="job-5", name="fix-login-2"), summary(id="job-6")])
        await pilot.pause()
        assert app.screen.query_one(Table).count == 3
        assert app.screen.query_one(Table).key == JOB

    play(scenario, known=KNOWN)


# Opening


@pytest.mark.usefixtures("plain_screens")
def test_enter_and_a_double_click_open_a_job() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("j", "enter")
        assert isinstance(app.screen, PlainScreen)
        assert app.screen.shows == JOB
        await pilot.press("escape")
        await pilot.click(Table, offset=(12, 1), times=2)
        assert isinstance(app.screen, PlainScreen)
        assert app.screen.shows == OTHER

    play(scenario, known=KNOWN)


@pytest.mark.usefixtures("plain_screens")
def test_l_opens_a_job_at_its_log() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("l")
        assert isinstance(app.screen, PlainScreen)
        assert (app.screen.shows, app.screen.start) == (OTHER, "log")

    play(scenario, known=KNOWN)


@pytest.mark.usefixtures("plain_screens")
def test_d_opens_the_decision_of_a_job() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("d")
        assert told(app) == ["deploy (z0y1x2w3) waits for no decision"]
        await pilot.press("j", "d")
        assert isinstance(app.screen, PlainScreen)
        assert app.screen.shows == DECISION

    play(scenario, known={**KNOWN, "decisions": [decision()]})


# What is done to a job


@pytest.mark.parametrize(
    ("key", "request_type", "answer", "done"),
    [("c", "JobCancel", "JobsCancelled", "cancelled"), ("z", "JobSuspend", "JobsSuspended", "suspended")],
)  # fmt: skip
def test_what_ends_a_job_asks_first_and_tells_what_became_of_it(
    key: str, request_type: str, answer: str, done: str
) -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        await pilot.press("j", key)
        await pilot.pause()
        assert isinstance(app.screen, Confirm)
        assert "fix-login (4f9h2k7m)?" in screens.text(app)
        await pilot.press("n")
        await answered(app, pilot)
        assert feed.asked == []
        for fields, words in (
            ({done: [JOB]}, f"{done}: fix-login (4f9h2k7m)"),
            (
                {"already_terminal": [JOB]},
                f"fix-login (4f9h2k7m) was not {done}: it has ended already",
            ),
            (
                {"not_found": [JOB]},
                f"fix-login (4f9h2k7m) was not {done}: the daemon does not know it any more",
            ),
        ):
            none: Message = {done: [], "already_terminal": [], "not_found": []}
            feed.answer(request_type, reply(answer, **{**none, **fields}))
            await pilot.press(key)
            await pilot.pause()
            await pilot.press("y")
            await answered(app, pilot)
            assert feed.of(request_type)[-1] == {"ids": [JOB]}
            assert told(app)[-1] == words

    play(scenario, known=KNOWN)


def test_r_resumes_a_job_and_tells_where_it_goes_on() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        feed.answer("JobResume", reply("JobResumed", id=OTHER, steps=["test"], warnings=["old"]))
        await pilot.press("r")
        await answered(app, pilot)
        assert feed.of("JobResume") == [{"id": OTHER}]
        assert told(app) == ["resumed: deploy (z0y1x2w3) at test\nold"]

    play(scenario, known=KNOWN)


def test_a_refusal_is_told_in_the_words_of_the_daemon() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        feed.answer("JobResume", OjError("job z0y1 runs: nothing to resume", hint="oj job show z0"))
        feed.answer("JobCancel", OjError("not allowed", hint="ask for a token"))
        await pilot.press("r")
        await answered(app, pilot)
        await pilot.press("c")
        await pilot.pause()
        await pilot.press("y")
        await answered(app, pilot)
        assert told(app) == [
            "job z0y1 runs: nothing to resume\noj job show z0",
            "not allowed\nask for a token",
        ]

    play(scenario, known=KNOWN)


def test_a_attaches_to_the_newest_agent_that_is_up() -> None:
    ran: list[tuple[str, ...]] = []

    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        # Headless: there is no terminal to lend.
        app.run_oj = lambda *words: ran.append(words)  # type: ignore[method-assign]
        await pilot.press("a", "j", "a")
        assert told(app) == ["deploy (z0y1x2w3) has no agent that is up"]
        assert ran == [("attach", "agt-newest-up")]

    agents = [
        agent(),
        agent(id="agt-newest-up", created_at_ms=NOW - 20, status="waiting"),
        agent(id="agt-queued", created_at_ms=NOW - 10, status="queued"),
        agent(id="agt-ended", created_at_ms=NOW - 5, status="completed"),
    ]
    play(scenario, known={**KNOWN, "agents": agents})


def test_y_copies_the_id() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("y")
        assert app.clipboard == OTHER
        assert told(app) == [f"copied: {OTHER}"]

    play(scenario, known=KNOWN)


def test_where_there_is_no_job_every_key_says_so() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        await pilot.press(*"czrald", "y", "enter")
        await answered(app, pilot)
        assert told(app) == ["there is no job under the cursor"] * 7
        assert feed.asked == []

    play(scenario, known={})
