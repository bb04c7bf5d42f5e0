"""The screen of all decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from textual.pilot import Pilot

from oj_daemon.errors import OjError
from oj_tui.app import OjApp
from oj_tui.screens.decision_detail import DecisionScreen
from oj_tui.widgets.table import Table
from tests.support import screens
from tests.support.fake_feed import FakeFeed
from tests.support.pilots import lent, settled, until
from tests.support.replies import AGENT, DECISION, NOW, Message, decision, reply, summary

MINUTE = 60_000
OLD = "dec-1a2b3c4d5e6f7g8h"
ASIDE = "dec-9a8b7c6d5e4f3g2h"
CLOSED = "dec-5a5b5c5d5e5f5g5h"
DECISIONS = [
    decision(deadline_at_ms=NOW + 5 * MINUTE, default="Nudge"),
    decision(
        id=OLD, source="plan", summary="a plan of 3 steps", created_at_ms=NOW - 60 * MINUTE, step="plan"
    ),
    decision(id=ASIDE, status="dismissed", note="dismissed by ann", created_at_ms=1),
]  # fmt: skip
ANSWERED = decision(
    id=CLOSED, status="resolved", choices=[[1]], by="ann", resolved_at_ms=NOW - MINUTE
)


def run(
    scenario: Callable[[OjApp, FakeFeed, Pilot[None]], Awaitable[None]],
    *,
    size: tuple[int, int] = (110, 20),
) -> None:
    """Play a scenario in front of three decisions."""

    async def play() -> None:
        feed = FakeFeed()
        feed.answer("DecisionList", reply("Decisions", decisions=[*DECISIONS, ANSWERED]))
        feed.answer("DecisionShow", ANSWERED)
        app = OjApp(feed, start="decisions", now=lambda: NOW)
        async with app.run_test(size=size, notifications=True) as pilot:
            feed.follows[0].send(is_snapshot=True, jobs=[summary()], decisions=DECISIONS)
            await pilot.pause()
            await scenario(app, feed, pilot)

    asyncio.run(play())


def keys_of(app: OjApp) -> list[str]:
    return [str(item["id"]) for item in app.screen.query_one(Table)._items]


def shown(app: OjApp, words: str) -> Callable[[], bool]:
    return lambda: words in screens.text(app)


def test_open_decisions_stand_first_the_oldest_on_top() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, _pilot: Pilot[None]) -> None:
        screens.compare(app, "decisions")
        assert keys_of(app) == [OLD, DECISION, ASIDE]

    run(scenario)


def test_a_narrow_terminal_still_tells_what_is_asked() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.resize_terminal(80, 24)
        await until(pilot, shown(app, "a plan of 3 steps"))
        assert "in 5m" in screens.text(app)

    run(scenario)


def test_nothing_to_decide_is_said_in_words() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.follows[0].send(is_snapshot=True, jobs=[summary()])
        await until(pilot, shown(app, "Nobody waits for you. h shows what was decided."))

    run(scenario)


def test_h_shows_closed_ones_too_and_hides_them_again() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        assert feed.of("DecisionList") == []
        await pilot.press("h")
        await until(pilot, lambda: keys_of(app) == [OLD, DECISION, ASIDE, CLOSED])
        assert feed.of("DecisionList") == [{"project": None, "all": True}]
        await pilot.press("h")
        await until(pilot, lambda: keys_of(app) == [OLD, DECISION, ASIDE])

    run(scenario)


def test_closed_ones_are_asked_for_again_when_one_is_closed() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("h")
        await until(pilot, lambda: CLOSED in keys_of(app))
        closed: Message = {**DECISIONS[1], "status": "resolved", "choices": [[1]]}
        feed.answer("DecisionList", reply("Decisions", decisions=[closed, ANSWERED]))
        feed.follows[0].send(is_snapshot=True, jobs=[summary()], decisions=DECISIONS[:1])
        await until(pilot, lambda: set(keys_of(app)) == {DECISION, OLD, CLOSED})
        assert len(feed.of("DecisionList")) == 2

    run(scenario)


def test_closed_ones_are_asked_for_once_also_when_nothing_is_open() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("DecisionList", reply("Decisions", decisions=[ANSWERED]))
        feed.follows[0].send(is_snapshot=True, jobs=[summary()])
        await pilot.press("h")
        await until(pilot, lambda: keys_of(app) == [CLOSED])
        app.show()
        await settled(pilot)
        app.show()
        await settled(pilot)
        assert len(feed.of("DecisionList")) == 1

    run(scenario)


def test_closed_ones_that_cannot_be_had_are_told_in_words() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("DecisionList", OjError("no token opens that", hint="oj token create"))
        await pilot.press("h")
        await until(pilot, shown(app, "no token opens that"))
        assert keys_of(app) == [OLD, DECISION, ASIDE]

    run(scenario)


def test_enter_and_a_double_click_open_a_decision() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DecisionScreen))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, DecisionScreen))
        await pilot.click(Table, offset=(5, 2), times=2)
        await until(pilot, lambda: isinstance(app.screen, DecisionScreen))
        await until(pilot, shown(app, "idle, it said: Done?"))

    run(scenario)


def test_y_copies_the_id() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("y")
        assert app.clipboard == OLD
        await pilot.press("enter", "y")
        await until(pilot, shown(app, f"copied: {OLD}"))

    run(scenario)


def test_a_enters_the_terminal_of_the_agent_that_asks() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        assert await lent(app, pilot, "a") == [("attach", AGENT)]

    run(scenario)


def test_where_no_agent_asks_there_is_nothing_to_enter() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.follows[0].send(is_snapshot=True, jobs=[summary()], decisions=[decision(agent_id="")])
        await pilot.pause()
        assert await lent(app, pilot, "a") == []
        await until(pilot, shown(app, "no agent asks this"))

    run(scenario)
