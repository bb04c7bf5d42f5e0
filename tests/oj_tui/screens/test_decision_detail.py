"""The screen of one decision."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input

from oj_daemon.errors import OjError
from oj_daemon.wire import answers
from oj_tui.app import OjApp
from oj_tui.screens.confirm import Confirm
from oj_tui.screens.decision import DecisionList
from oj_tui.screens.decision_detail import DecisionScreen
from oj_tui.widgets.choices import Choices, Row
from oj_tui.widgets.document import Document
from oj_tui.widgets.message_line import MessageLine
from tests.support import screens
from tests.support.fake_feed import FakeFeed
from tests.support.pilots import lent, until
from tests.support.replies import (
    AGENT,
    DECISION,
    NOW,
    Message,
    asked,
    decision,
    options,
    reply,
    summary,
)

PLAN = """Agent coder in job "fix-login" is requesting plan approval.

Plan:
# Fix the login

1. read `login.py`
2. **change** it <!-- and rm -rf / -->
3. see [the docs](https://evil.example)
"""
ACCEPT = options(
    "Accept (clear context)", "Accept (auto edits)", "Accept (manual edits)", "Revise", "Cancel",
    recommended="Accept (clear context)",
)  # fmt: skip
DONE = reply("DecisionResolved", id=DECISION)

Scenario = Callable[[OjApp, FakeFeed, Pilot[None]], Awaitable[None]]


@pytest.fixture(autouse=True)
def _somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "user_name", lambda: "ann")


def run(scenario: Scenario, *others: Message, size: tuple[int, int] = (100, 30), **changes: object) -> None:  # fmt: skip
    """Play a scenario in front of one decision."""

    async def play() -> None:
        feed = FakeFeed()
        feed.answer("DecisionResolve", DONE)
        app = OjApp(feed, start="decisions", now=lambda: NOW)
        async with app.run_test(size=size, notifications=True) as pilot:
            view = decision(**changes)
            feed.follows[0].send(is_snapshot=True, jobs=[summary()], decisions=[view, *others])
            await pilot.pause()
            await app.push_screen(DecisionScreen(DECISION))
            await until(pilot, lambda: view["status"] != "open" or "▸" in screens.text(app))
            await scenario(app, feed, pilot)

    asyncio.run(play())


def answer(*choices: list[int], message: str = "") -> Message:
    return {
        "id": DECISION, "choices": list(choices), "message": message, "by": "ann", "channel": "tui",
    }  # fmt: skip


def shown(app: OjApp, words: str) -> Callable[[], bool]:
    return lambda: words in screens.text(app)


async def sent(pilot: Pilot[None], feed: FakeFeed, expected: Message) -> None:
    await until(pilot, lambda: feed.of("DecisionResolve"))
    assert feed.of("DecisionResolve") == [expected]


def test_it_tells_what_is_asked_and_what_can_be_answered() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "Dismiss"))
        screens.compare(app, "decision")

    run(scenario, deadline_at_ms=NOW + 60_000, default="Done")


def test_a_number_chooses_and_does_not_change_the_mode() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        await sent(pilot, feed, answer([2]))
        await until(pilot, lambda: isinstance(app.screen, DecisionList))
        assert app.current_mode == "decisions"

    run(scenario)


def test_after_an_answer_one_is_back_and_told_how_many_are_open_still() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        await until(pilot, shown(app, "answered: Done"))
        assert "1 more decision is open" in screens.text(app)

    run(scenario, decision(id="dec-1111111111111111"))


def test_enter_chooses_the_one_that_is_marked_and_a_click_the_one_clicked() -> None:
    async def by_key(_app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("down", "j", "up", "enter")
        await sent(pilot, feed, answer([2]))

    async def by_mouse(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.click(list(app.screen.query(Row))[1])
        await sent(pilot, feed, answer([2]))

    run(by_key)
    run(by_mouse)


def test_a_number_that_is_no_option_says_so() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("9")
        await until(pilot, shown(app, "there is no option 9"))
        assert feed.of("DecisionResolve") == []

    run(scenario)


def test_a_nudge_may_go_with_a_message_or_without_one() -> None:
    async def with_one(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("1")
        await until(pilot, lambda: app.screen.query_one(MessageLine).display)
        await pilot.press(*"try 2", "enter")
        await sent(pilot, feed, answer([1], message="try 2"))

    async def without(_app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("1", "enter")
        await sent(pilot, feed, answer([1]))

    run(with_one)
    run(without)


def test_revise_needs_a_message() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("4", "enter")
        await until(pilot, shown(app, "Revise needs a message"))
        assert feed.of("DecisionResolve") == []
        await pilot.press(*"no", "enter")
        await sent(pilot, feed, answer([4], message="no"))

    run(scenario, source="plan", context=PLAN, options=ACCEPT)


def test_esc_takes_back_what_waits_for_its_message() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("1", "x", "escape")
        await pilot.pause()
        assert isinstance(app.screen, DecisionScreen)
        assert isinstance(app.focused, Choices)
        await pilot.press("t", *"on", "enter")
        await sent(pilot, feed, answer(message="on"))

    run(scenario)


def test_an_answer_in_own_words_needs_words() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("t", "enter")
        await until(pilot, shown(app, "nothing was written"))
        assert feed.of("DecisionResolve") == []

    run(scenario)


def test_cancel_asks_first() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("3")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await pilot.pause()
        assert feed.of("DecisionResolve") == []
        await pilot.press("3")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await sent(pilot, feed, answer([3]))
        await until(pilot, lambda: isinstance(app.screen, DecisionList))

    run(scenario)


def test_an_option_of_the_agent_that_is_called_cancel_is_an_answer_like_any_other() -> None:
    async def scenario(_app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        await sent(pilot, feed, answer([2]))

    fields = asked(False)
    fields["question_groups"][0]["options"][1]["label"] = "Cancel"
    fields["options"][1]["label"] = "Cancel"
    run(scenario, **fields)


def test_other_asks_what() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("3")
        await until(pilot, lambda: app.screen.query_one(MessageLine).display)
        await pilot.press(*"blue", "enter")
        await sent(pilot, feed, answer([3], message="blue"))

    run(scenario, **asked(False))


def test_a_plan_is_readable_and_nothing_of_it_is_hidden() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "https://evil.example"))
        assert app.screen.query(Document)
        assert "<!-- and rm -rf / -->" in screens.text(app)
        screens.compare(app, "decision-plan")
        await pilot.press("v")
        await until(pilot, shown(app, "**change** it"))

    run(scenario, source="plan", context=PLAN, options=ACCEPT, size=(100, 36))


def test_a_plan_of_which_part_would_be_lost_is_shown_as_it_was_written() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "As it was written"))
        assert "| 1 | 2 | and delete everything |" in screens.text(app)

    table = "Asks.\n\nPlan:\n| a | b |\n|---|---|\n| 1 | 2 | and delete everything |"
    run(scenario, source="plan", context=table, options=ACCEPT)


def test_a_long_context_scrolls_while_the_options_stay_in_sight() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "line 0"))
        assert "Nudge" in screens.text(app)
        await pilot.press("pagedown")
        await until(pilot, lambda: "line 0" not in screens.text(app))
        assert "Nudge" in screens.text(app)

    text = "\n".join(f"line {at}" for at in range(100))
    run(scenario, context=text, size=(80, 24))


def test_several_questions_are_one_form() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "Submit"))
        screens.compare(app, "decision-form")
        await pilot.press("2", "tab", "1", "2", "ctrl+s")
        await sent(pilot, feed, answer([2], [1, 2]))

    run(scenario, **asked(False, True), size=(100, 40))


def test_a_form_asks_for_the_text_of_other_and_for_what_is_missing() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("3", "ctrl+s")
        await until(pilot, shown(app, "question 1: Other needs a text"))
        await pilot.press(*"5 red", "ctrl+s")
        await until(pilot, shown(app, "question 2 has no answer yet"))
        assert feed.of("DecisionResolve") == []
        await pilot.press("tab", "space")
        app.screen.query_one(Button).focus()
        await pilot.press("enter")
        await sent(pilot, feed, answer([3], [1], message="5 red"))

    run(scenario, **asked(False, False), size=(100, 40))


def test_esc_leaves_the_text_of_other_and_not_the_screen() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("3", "x")
        assert isinstance(app.focused, Input)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, DecisionScreen)
        assert isinstance(app.focused, Choices)

    run(scenario, **asked(False, False), size=(100, 40))


def test_where_several_may_be_chosen_one_that_is_alone_unmarks_the_others() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        choices = app.screen.query_one(Choices)
        await pilot.press("1", "2")
        assert choices.picked == {1, 2}
        await pilot.press("5")
        assert choices.picked == {5}
        await pilot.press("1", "2", "1")
        assert choices.picked == {2}
        await pilot.press("ctrl+s")
        await sent(pilot, feed, answer([2]))

    run(scenario, **asked(True), size=(100, 40))


def test_an_answer_from_elsewhere_is_told_and_none_is_taken_any_more() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer(
            "DecisionShow",
            decision(status="resolved", choices=[[1]], by="ben", channel="cli", resolved_at_ms=NOW),
        )
        await pilot.press("t", "x")
        feed.follows[0].send(seq=2, jobs=[summary()])
        await until(pilot, shown(app, "✓ answered by ben (cli) 0s ago: Nudge"))
        await until(pilot, lambda: not app.screen.query(Choices))
        assert not app.screen.query_one(MessageLine).display
        await pilot.press("t", "1")
        await until(pilot, shown(app, "it takes no answer"))
        assert not app.screen.query_one(MessageLine).display
        assert feed.of("DecisionResolve") == []
        assert app.current_mode == "decisions"

    run(scenario)


def test_a_decision_that_became_obsolete_says_why() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("DecisionShow", decision(status="obsolete", note="the agent went on"))
        feed.follows[0].send(seq=2, jobs=[summary()])
        await until(pilot, shown(app, "⊘ no longer asked: the agent went on"))

    run(scenario)


def test_an_answer_that_is_refused_is_told_and_the_screen_stays() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("DecisionResolve", OjError("it is already resolved", code="conflict"))
        await pilot.press("2")
        await until(pilot, shown(app, "it is already resolved"))
        assert isinstance(app.screen, DecisionScreen)

    run(scenario)


def test_a_decision_that_is_not_there_says_so() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("DecisionShow", OjError("no decision '2222'", code="not_found"))
        await app.push_screen(DecisionScreen("dec-2222222222222222"))
        await until(pilot, shown(app, "no decision '2222'"))
        app.show()
        await pilot.pause()
        assert len(feed.of("DecisionShow")) == 1

    run(scenario)


def test_one_that_was_put_aside_can_be_opened_again() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "o opens it again"))
        feed.answer("DecisionReopen", DONE)
        await pilot.press("o")
        await until(pilot, lambda: feed.of("DecisionReopen") == [{"id": DECISION}])
        feed.follows[0].send(seq=2, jobs=[summary()], decisions=[decision()])
        await until(pilot, lambda: app.screen.query(Choices))
        await pilot.press("o")
        await pilot.pause()
        assert len(feed.of("DecisionReopen")) == 1

    run(scenario, status="dismissed", note="dismissed by ann")


def test_a_enters_the_terminal_of_the_agent_that_asks() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        assert await lent(app, pilot, "a") == [("attach", AGENT)]

    run(scenario)


def test_a_question_that_fails_is_not_asked_again_by_telling_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("DecisionShow", OjError("no room for more questions", code="unavailable"))
        feed.follows[0].send(jobs=[summary()])
        await until(pilot, shown(app, "no room for more questions"))
        for _ in range(20):
            await pilot.pause()
        assert len(feed.of("DecisionShow")) == 1
        feed.follows[0].send(jobs=[summary()])
        await until(pilot, lambda: len(feed.of("DecisionShow")) == 2)

    monkeypatch.setattr("oj_tui.app.TICK_SECONDS", 3600)
    run(scenario)
