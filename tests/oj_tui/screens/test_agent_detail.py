"""The screen of one agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from textual.pilot import Pilot

from oj_daemon.errors import OjError
from oj_tui.app import OjApp
from oj_tui.screens.agent_detail import AgentScreen
from oj_tui.screens.confirm import Confirm
from oj_tui.screens.decision_detail import DecisionScreen
from oj_tui.widgets.log_pane import LogPane
from oj_tui.widgets.terminal_pane import TerminalPane
from tests.support import screens
from tests.support.fake_feed import FakeFeed, FakeFollow
from tests.support.pilots import until
from tests.support.replies import AGENT, DECISION, NOW, Message, agent, decision, reply, summary

USAGE = {
    "input_tokens": 1_200, "output_tokens": 340, "cache_read_tokens": 9_000, "cache_write_tokens": 0,
    "total_cost_usd": 0.5, "request_count": 4, "total_api_ms": 9_000,
}  # fmt: skip


def mine(**changes: object) -> Message:
    return agent(
        files_read=2, commands=3, usage=USAGE, last_message="I am\nat it.", **{"detail": "", **changes}
    )  # fmt: skip


def screen(*rows: str, **changes: object) -> Message:
    plain = [row.replace("\x1b[32m", "").replace("\x1b[0m", "") for row in rows]
    fields: Message = {
        "agent_id": AGENT, "name": "coder", "status": "running", "live": True, "lines": plain,
        "ansi": list(rows), "cols": 60, "rows": 20,
    }  # fmt: skip
    return reply("AgentScreen", **{**fields, **changes})


def log(content: str, offset: int, *, is_over: bool = False) -> Message:
    entry = {
        "agent_id": AGENT, "name": "coder", "step": "code", "log_path": "/x", "content": content,
        "offset": offset,
    }  # fmt: skip
    return reply("Logs", logs=[entry], is_over=is_over)


def run(
    scenario: Callable[[OjApp, FakeFeed, Pilot[None]], Awaitable[None]],
    *,
    size: tuple[int, int] = (130, 24),
    shows: Message | OjError | None = None,
    **changes: object,
) -> None:
    """Play a scenario in front of one agent."""

    async def play() -> None:
        feed = FakeFeed()
        feed.answer("AgentPeek", shows or screen("\x1b[32m> make\x1b[0m", "all is well"))
        feed.answer("AgentList", reply("Agents", agents=[], total=0))
        feed.answer("AgentShow", OjError("away", code="unavailable"))
        feed.answer("AgentLogs", log("read  a.py\n", 12))
        app = OjApp(feed, start="agents", now=lambda: NOW)
        async with app.run_test(size=size, notifications=True) as pilot:
            view = mine(**changes)
            decisions = [decision()] if view["decision_id"] else []
            feed.follows[0].send(
                is_snapshot=True, jobs=[summary()], agents=[view], decisions=decisions
            )
            await pilot.pause()
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, AgentScreen))
            await until(pilot, lambda: feed.of("AgentPeek"))
            await scenario(app, feed, pilot)

    asyncio.run(play())


def shown(app: OjApp, words: str) -> Callable[[], bool]:
    return lambda: words in screens.text(app)


def test_the_terminal_stands_beside_what_there_is_to_say() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "all is well"))
        screens.compare(app, "agent")
        assert feed.of("AgentPeek")[0] == {"id": AGENT}

    run(scenario)


def test_in_a_narrow_terminal_it_stands_below() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "all is well"))
        screens.compare(app, "agent-narrow")
        await pilot.resize_terminal(140, 40)
        await until(pilot, shown(app, "Last message"))

    run(scenario, size=(80, 24))


def test_the_terminal_is_looked_at_again_when_the_last_look_was_answered() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "all is well"))
        feed.answer("AgentPeek", screen("> make", "it broke"))
        await until(pilot, shown(app, "it broke"))

    run(scenario)


def test_nobody_looks_at_a_terminal_that_is_not_in_front() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "all is well"))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, AgentScreen))
        assert not [each for each in app.workers if each.group == "look"]
        await pilot.press("enter")
        asked = len(feed.of("AgentPeek"))
        await until(pilot, lambda: len(feed.of("AgentPeek")) > asked)
        await app.switch_mode("jobs")
        await pilot.pause()
        assert not [each for each in app.workers if each.group == "look" and each.is_running]

    run(scenario)


def test_a_terminal_that_is_live_no_more_says_so_and_is_asked_for_once() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "■ last screen, completed"))
        assert len(feed.of("AgentPeek")) == 1
        app.show()
        await pilot.pause()
        assert len(feed.of("AgentPeek")) == 1
        feed.follows[0].send(
            jobs=[summary()], agents=[mine(status="completed", updated_at_ms=NOW - 1)]
        )
        await until(pilot, lambda: len(feed.of("AgentPeek")) == 2)

    run(
        scenario,
        shows=screen("bye", live=False, status="completed"),
        status="completed",
        finished_at_ms=NOW - 5000,
    )


def test_what_it_did_and_spent_is_asked_for_while_it_lives() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("AgentShow", {**mine(), "commands": 41})
        shows = app.screen
        assert isinstance(shows, AgentScreen)
        shows.ask_figures()
        await until(pilot, shown(app, "41 commands"))
        feed.follows[0].send(seq=2, jobs=[summary()], agents=[mine(status="completed")])
        await until(pilot, shown(app, "✓ completed"))
        asked = len(feed.of("AgentShow"))
        shows.ask_figures()
        await pilot.pause()
        assert len(feed.of("AgentShow")) == asked

    run(scenario)


def test_a_look_that_fails_is_told_above_the_terminal() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await until(pilot, shown(app, "cannot look at the screen: its pod is away"))

    run(scenario, shows=OjError("its pod is away", code="unavailable"))


def test_the_log_takes_the_place_of_the_terminal_and_is_followed() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("l")
        await until(pilot, shown(app, "read  a.py"))
        await until(pilot, lambda: len(feed.follows) == 2)
        follow: FakeFollow = feed.follows[1]
        assert follow.fields == {"logs": {AGENT: 12}}
        follow.send(is_snapshot=True, logs={AGENT: {"content": "wrote  b.py\n", "offset": 24}})
        await until(pilot, shown(app, "wrote  b.py"))
        assert follow.taken_count == 1
        assert app.store.jobs, "news of a log are no news of jobs"
        assert not app.screen.query_one(TerminalPane).display
        await pilot.press("l")
        await until(pilot, shown(app, "all is well"))
        assert not app.screen.query_one(LogPane).display
        await pilot.press("escape")
        await until(pilot, lambda: follow.is_stopped)

    run(scenario)


def test_a_log_that_is_over_is_not_followed() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("AgentLogs", log("read  a.py\n", 12, is_over=True))
        await pilot.press("l")
        await until(pilot, shown(app, "read  a.py"))
        assert len(feed.follows) == 1

    run(scenario)


def test_esc_ends_a_search_of_the_log_before_it_goes_back() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("l")
        await until(pilot, shown(app, "read  a.py"))
        await pilot.press("slash", "a", "enter")
        await until(pilot, shown(app, "'a' in"))
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, AgentScreen)
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, AgentScreen))

    run(scenario)


def test_a_message_is_sent_and_esc_leaves_the_line_and_not_the_screen() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("AgentSend", mine())
        await pilot.press("m", *"hi", "enter")
        await until(pilot, shown(app, "sent to coder"))
        assert feed.of("AgentSend") == [{"id": AGENT, "message": "hi"}]
        await pilot.press("m", "x", "escape")
        await pilot.pause()
        assert isinstance(app.screen, AgentScreen)
        assert len(feed.of("AgentSend")) == 1

    run(scenario)


def test_kill_asks_first() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("AgentKill", mine())
        await pilot.press("K")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert feed.of("AgentKill") == []
        await pilot.press("y")
        await until(pilot, lambda: feed.of("AgentKill") == [{"id": AGENT}])

    run(scenario)


def test_d_opens_its_decision_and_esc_comes_back() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, DecisionScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, AgentScreen))

    run(scenario, status="waiting", state="idle", decision_id=DECISION)


def test_a_lends_the_terminal_and_looks_again_afterwards() -> None:
    lent: list[tuple[Any, ...]] = []

    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        app.run_oj = lambda *words: lent.append(words)  # type: ignore[method-assign]  # a terminal is no test's to lend
        await pilot.press("a")
        asked = len(feed.of("AgentPeek"))
        await until(pilot, lambda: len(feed.of("AgentPeek")) > asked)

    run(scenario)
    assert lent == [("attach", AGENT)]


def test_an_agent_that_news_do_not_tell_of_is_asked_for() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("AgentShow", agent(id="agt-1111111111111111", name="old", status="completed"))
        await app.push_screen(AgentScreen("agt-1111111111111111"))
        await until(pilot, shown(app, "11111111 old"))
        assert feed.of("AgentShow") == [{"id": "agt-1111111111111111"}]

    run(scenario)
