"""The screen of all agents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from textual import events
from textual.pilot import Pilot

from oj_daemon.errors import OjError
from oj_tui.app import OjApp
from oj_tui.screens.agent import AgentList
from oj_tui.screens.agent_detail import AgentScreen
from oj_tui.screens.confirm import Confirm
from oj_tui.screens.decision_detail import DecisionScreen
from oj_tui.widgets.message_line import MessageLine
from oj_tui.widgets.table import Table
from tests.support import screens
from tests.support.fake_feed import FakeFeed
from tests.support.pilots import lent, settled, until
from tests.support.replies import AGENT, DECISION, NOW, OTHER, agent, decision, reply, summary

SECOND = "agt-0a1b2c3d4e5f6g7h"
THIRD = "agt-9z8y7x6w5v4t3s2r"
USAGE = {
    "input_tokens": 1_200, "output_tokens": 340, "cache_read_tokens": 9_000, "cache_write_tokens": 2_000,
    "total_cost_usd": 0.127, "request_count": 4, "total_api_ms": 9_000,
}  # fmt: skip
AGENTS = [
    agent(files_read=3, files_written=1, commands=7, usage=USAGE),
    agent(
        id=SECOND, name="reviewer", step="review", status="completed", state="exited",
        created_at_ms=NOW - 90_000, finished_at_ms=NOW - 30_000, exit_reason="done",
    ),
    agent(
        id=THIRD, name="planner", owner=f"job:{OTHER}", job_name=OTHER, step="plan", status="waiting",
        state="prompt", detail="may I?", decision_id=DECISION, created_at_ms=NOW - 60_000,
    ),
]  # fmt: skip


def seen(app: OjApp, words: str) -> bool:
    return words in screens.text(app)


def run(
    scenario: Callable[[OjApp, FakeFeed, Pilot[None]], Awaitable[None]],
    *,
    size: tuple[int, int] = (120, 24),
) -> None:
    """Play a scenario in front of three agents."""

    async def play() -> None:
        feed = FakeFeed()
        feed.answer("AgentList", reply("Agents", agents=AGENTS, total=3))
        feed.answer("AgentPeek", OjError("no screen", code="not_found"))
        app = OjApp(feed, start="agents", now=lambda: NOW)
        async with app.run_test(size=size, notifications=True) as pilot:
            feed.follows[0].send(
                is_snapshot=True,
                jobs=[summary(), summary(id=OTHER, name=OTHER)],
                agents=AGENTS,
                decisions=[decision(owner_id=OTHER, agent_id=THIRD)],
            )
            await pilot.pause()
            await scenario(app, feed, pilot)

    asyncio.run(play())


def keys_of(app: OjApp) -> list[str]:
    table = app.screen.query_one(Table)
    return [str(item["id"]) for item in table._items]


def test_live_agents_stand_first_with_what_they_do_and_cost() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, _pilot: Pilot[None]) -> None:
        screens.compare(app, "agents")

    run(scenario)


def test_a_narrow_terminal_leaves_out_what_matters_least() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        shown = screens.text(app)
        assert "STATUS" in shown
        assert "? prompt" in shown
        assert "TOKENS" not in shown

    run(scenario)


def test_figures_are_asked_for_while_the_screen_is_in_front() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        await settled(pilot)
        assert feed.of("AgentList")[0] == {"project": None, "limit": None}
        feed.answer("AgentList", reply("Agents", agents=[agent(commands=42)], total=1))
        agents = app.screen
        assert isinstance(agents, AgentList)
        agents.ask_figures()
        await settled(pilot)
        assert seen(app, "0/0/42")
        await app.switch_mode("jobs")
        asked = len(feed.of("AgentList"))
        agents.ask_figures()
        await settled(pilot)
        assert len(feed.of("AgentList")) == asked

    run(scenario)


def test_a_filter_narrows_the_list_while_one_types_and_esc_shows_all() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"plan")
        await pilot.pause()
        assert keys_of(app) == [THIRD]
        await pilot.press("enter", "escape")
        await pilot.pause()
        assert len(keys_of(app)) == 3
        await pilot.press("slash", *"nothing")
        await pilot.pause()
        assert seen(app, "No agent matches 'nothing'; Esc shows all.")

    run(scenario)


def test_s_sorts_by_the_next_column_and_live_ones_stay_on_top() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        assert keys_of(app) == [THIRD, AGENT, SECOND]
        await pilot.press("s")
        await until(pilot, lambda: seen(app, "COST ▼"))
        assert keys_of(app) == [AGENT, THIRD, SECOND]
        await pilot.press("S")
        await pilot.pause()
        assert keys_of(app) == [THIRD, AGENT, SECOND]

    run(scenario)


def test_enter_and_a_double_click_open_an_agent() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, AgentScreen)
        await pilot.press("escape")
        await pilot.pause()
        await pilot.click(Table, offset=(5, 1), times=2)
        await pilot.pause()
        assert isinstance(app.screen, AgentScreen)

    run(scenario)


def test_m_writes_to_the_agent_under_the_cursor() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("AgentSend", agent(id=THIRD, name="planner"))
        await pilot.press("m", *"go 5 on", "enter")
        await settled(pilot)
        assert feed.of("AgentSend") == [{"id": THIRD, "message": "go 5 on"}]
        assert not app.screen.query_one(MessageLine).display
        assert isinstance(app.focused, Table)

    run(scenario)


def test_a_message_that_is_refused_stays_written_and_esc_leaves_it() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("AgentSend", OjError("it is being ended", hint="oj agent show 9z8y7x6w"))
        await pilot.press("m", *"hello", "enter")
        await settled(pilot)
        line = app.screen.query_one(MessageLine)
        assert (line.display, line.value) == (True, "hello")
        await until(pilot, lambda: seen(app, "it is being ended"))
        await pilot.press("escape")
        await pilot.pause()
        assert not line.display
        assert len(feed.of("AgentSend")) == 1

    run(scenario)


def test_a_text_of_several_lines_is_pasted_whole() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("m", "x")
        app.post_message(events.Paste("one\n  two\n"))
        line = app.screen.query_one(MessageLine)
        await until(pilot, lambda: line.value == "xone two")

    run(scenario)


def test_kill_asks_first() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("AgentKill", agent(id=THIRD, name="planner"))
        await pilot.press("K")
        await pilot.pause()
        assert isinstance(app.screen, Confirm)
        await pilot.press("enter")
        await pilot.pause()
        assert feed.of("AgentKill") == []
        await pilot.press("K")
        await pilot.pause()
        await pilot.press("y")
        await settled(pilot)
        assert feed.of("AgentKill") == [{"id": THIRD}]

    run(scenario)


def test_l_opens_its_log_and_y_copies_its_id() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("AgentLogs", OjError("its log is away", code="unavailable"))
        await pilot.press("y")
        assert app.clipboard == THIRD
        await pilot.press("l")
        await until(pilot, lambda: seen(app, "its log is away"))
        assert seen(app, "l shows the terminal again")
        assert feed.of("AgentPeek") == []

    run(scenario)


def test_r_resumes_and_a_refusal_is_told_in_words() -> None:
    async def scenario(app: OjApp, feed: FakeFeed, pilot: Pilot[None]) -> None:
        feed.answer("AgentResume", OjError("its job has ended", hint="oj job resume z0y1x2w3"))
        await pilot.press("r")
        await until(pilot, lambda: seen(app, "its job has ended"))
        assert feed.of("AgentResume") == [{"id": THIRD}]

    run(scenario)


def test_d_opens_the_decision_that_an_agent_waits_for() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        await pilot.press("d")
        await pilot.pause()
        assert type(app.screen) is DecisionScreen
        await pilot.press("escape", "down", "d")
        await pilot.pause()
        await until(pilot, lambda: seen(app, "coder waits for no decision"))

    run(scenario)


def test_a_attaches_to_the_agent_under_the_cursor() -> None:
    async def scenario(app: OjApp, _feed: FakeFeed, pilot: Pilot[None]) -> None:
        assert await lent(app, pilot, "a") == [("attach", THIRD)]

    run(scenario)
