from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

import oj_tui
from oj_daemon.errors import Rejected, WireError
from oj_tui.app import OjApp
from oj_tui.screens.confirm import Confirm
from oj_tui.screens.job_detail import JobScreen
from oj_tui.widgets.log_pane import LogPane
from oj_tui.widgets.panes import Panes
from oj_tui.widgets.rows import Rows
from tests.support import screens
from tests.support.fake_feed import FakeFeed, FakeFollow
from tests.support.replies import (
    AGENT,
    DECISION,
    JOB,
    NOW,
    Message,
    agent,
    decision,
    detail,
    node,
    reply,
    step,
    summary,
    workspace,
)

TEXT = "".join(
    f"2026-11-24T06:37:{at:02}Z [{name}] {text}\n"
    for at, (name, text) in enumerate(
        [
            ("job", "job started"),
            ("prepare", "step started"),
            ("prepare", "fetching"),
            ("code", "the agent began"),
            ("test", "step started"),
            ("test", "test_login failed"),
            ("test#2", "test_login passed"),
        ]
    )
)


class TestApp(OjApp):
    """Lends its terminal to nobody, but writes down to whom it would."""

    __test__ = False
    CSS_PATH = str(Path(oj_tui.__file__).parent / "oj.tcss")

    def __init__(self, feed: FakeFeed) -> None:
        super().__init__(feed, start="jobs", now=lambda: NOW)
        self.ran: list[tuple[str, ...]] = []

    def run_oj(self, *arguments: str) -> None:
        self.ran.append(arguments)

    @property
    def said(self) -> list[str]:
        """Every notice that is shown."""
        return [each.message for each in self._notifications]


def job(**changes: object) -> Message:
    fields: Message = {
        "steps": [step("prepare"), step("code", "waiting", detail="idle"), step("test", "running")],
        "graph": [
            node("prepare", "code", "test"),
            node("code", kind="agent"),
            node("test"),
            node("ship", after=["code", "test"]),
        ],
        "workspace": workspace(),
        "vars": {"var.branch": "main", "invoke.dir": "/home/me/shop"},
        "agents": [agent()],
        "decisions": [decision()],
        "reason": "test runs",
    }
    return detail(**{**fields, **changes})


def log(content: str = TEXT, offset: int = 500) -> Message:
    return reply("Log", log_path="/state/x.log", content=content, offset=offset)


class Tui(NamedTuple):
    """What a test has at hand."""

    app: TestApp
    pilot: Pilot[Any]
    feed: FakeFeed

    async def shows(self, *words: str) -> None:
        """Wait until all of this stands on the screen."""
        async with asyncio.timeout(20):
            while not all(each in screens.text(self.app) for each in words):
                await self.pilot.pause(0.01)


Scenario = Callable[[Tui], Awaitable[None]]


def see(
    scenario: Scenario,
    *,
    start: str = "steps",
    size: tuple[int, int] = (80, 24),
    known: Message | None = None,
    log_answer: Any = None,
) -> None:
    async def run() -> None:
        feed = FakeFeed()
        feed.answer("JobLogs", log_answer if log_answer is not None else log())
        app = TestApp(feed)
        async with app.run_test(size=size) as pilot:
            feed.follows[0].send(is_snapshot=True, jobs=[summary()])
            await app.push_screen(JobScreen(JOB, start))
            await settle(app, pilot)
            follow(feed).send(details=[known or job()])
            await settle(app, pilot)
            await scenario(Tui(app, pilot, feed))

    asyncio.run(run())


async def settle(app: OjApp, pilot: Pilot[Any]) -> None:
    """Let everything happen that was begun."""
    await pilot.pause()
    await asyncio.wait_for(app.workers.wait_for_complete(), 10)
    await pilot.pause()


def follow(feed: FakeFeed) -> FakeFollow:
    """What the screen listens to now."""
    return feed.follows[-1]


def pane(app: OjApp) -> str:
    return app.screen.query_one(Panes).current


def log_lines(app: OjApp) -> list[str]:
    """The log as it is kept, without the time of day."""
    text = app.screen.query_one(LogPane).log_text
    return [text.line(number)[9:] for number in range(text.first, text.end)]


def test_a_job_is_shown_with_its_steps_side_by_side() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.shows("after code, test")
        screens.compare(tui.app, "job_detail")

    see(scenario)


def test_where_there_is_room_the_log_stands_beside_the_steps() -> None:
    async def scenario(tui: Tui) -> None:
        tui.feed.answer("JobStory", reply("Story", lines=[], complete=True))
        await tui.shows("✓ prepare", "test_login passed")
        await tui.pilot.press("tab", "tab")
        await settle(tui.app, tui.pilot)
        assert pane(tui.app) == "story"
        await tui.shows("✓ prepare")
        await tui.pilot.resize_terminal(80, 24)
        await tui.shows("[Story]", "No facts.")
        assert "✓ prepare" not in screens.text(tui.app)

    see(scenario, size=(140, 30))


def test_panes_are_walked_through_by_tab_and_by_click() -> None:
    async def scenario(tui: Tui) -> None:
        tui.feed.answer("JobStory", reply("Story", lines=[], complete=True))
        seen = [pane(tui.app)]
        for _ in range(6):
            await tui.pilot.press("tab")
            seen.append(pane(tui.app))
        assert seen == ["steps", "log", "story", "variables", "agents", "decisions", "steps"]
        await tui.pilot.press("shift+tab")
        assert pane(tui.app) == "decisions"
        await tui.pilot.click("PaneBar", offset=(9, 0))
        assert pane(tui.app) == "log"

    see(scenario)


def test_a_job_is_opened_at_its_log() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.shows("[Log]", "test_login passed", "following the end")
        await tui.pilot.press("up")
        assert pane(tui.app) == "log"

    see(scenario, start="log")


def test_the_log_goes_on_from_where_its_tail_ended() -> None:
    async def scenario(tui: Tui) -> None:
        assert tui.feed.of("JobLogs") == [{"id": JOB, "lines": 2000}]
        assert follow(tui.feed).fields == {"ids": [JOB], "logs": {JOB: 500}}
        assert [each.is_stopped for each in tui.feed.follows] == [False, True, False]
        chunk = {"content": "2026-11-24T06:38:00Z [ship] go", "offset": 530}
        follow(tui.feed).send(logs={JOB: chunk})
        follow(tui.feed).send(logs={JOB: {"content": "es out\n", "offset": 537}})
        await settle(tui.app, tui.pilot)
        assert log_lines(tui.app)[-2:] == ["test#2 test_login passed", "ship goes out"]
        assert follow(tui.feed).taken_count == 3

    see(scenario)


def test_a_log_that_is_longer_than_what_is_shown_says_so_in_its_first_line() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.pilot.press("g")
        await tui.shows("the last 2000 lines; all of them: oj logs ")

    content = "2026-11-24T06:38:00Z [ship] go\n" * 2000
    answer = reply("Log", log_path="", content=content, offset=70_000)
    see(scenario, start="log", log_answer=answer)


def test_after_a_lost_connection_the_log_goes_on_without_gap_or_repeat() -> None:
    async def scenario(tui: Tui) -> None:
        before = log_lines(tui.app)
        error = WireError("the daemon went away", code="closed")
        tui.feed.follows[0].lose(error)
        follow(tui.feed).lose(error)
        await settle(tui.app, tui.pilot)
        await tui.shows("the daemon went away", "✓ prepare")
        # As the real feed does: the same Watch goes on at its offset, and begins with a snapshot.
        chunk = {"content": "2026-11-24T06:38:00Z [ship] back\n", "offset": 533}
        follow(tui.feed).send(is_snapshot=True, details=[job()], logs={JOB: chunk})
        await settle(tui.app, tui.pilot)
        assert log_lines(tui.app) == [*before, "ship back"]
        assert len(tui.feed.of("JobLogs")) == 1

    see(scenario)


def test_a_log_that_could_not_be_read_is_asked_for_when_the_daemon_is_back() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.pilot.press("l")
        await tui.shows("The log cannot be read: nobody there")
        follow(tui.feed).lose(WireError("nobody there", code="unreachable"))
        tui.feed.answer("JobLogs", log())
        follow(tui.feed).send(is_snapshot=True, details=[job()])
        await settle(tui.app, tui.pilot)
        assert len(log_lines(tui.app)) == 7
        assert follow(tui.feed).fields["logs"] == {JOB: 500}

    see(scenario, log_answer=WireError("nobody there", code="unreachable"))


def test_what_an_old_watch_still_tells_is_not_heard() -> None:
    async def scenario(tui: Tui) -> None:
        old = tui.feed.follows[1]
        old.send(details=[job(name="another")], logs={JOB: {"content": "twice\n", "offset": 9}})
        await settle(tui.app, tui.pilot)
        assert "twice" not in log_lines(tui.app)[-1]
        assert old.taken_count == 1
        assert tui.app.store.jobs[JOB]["name"] == "fix-login"

    see(scenario)


def test_enter_on_a_shell_step_shows_its_log_and_escape_all_of_it_again() -> None:
    async def scenario(tui: Tui) -> None:
        tui.app.screen.query_one("#steps", Rows).select("test")
        await tui.pilot.press("enter")
        await settle(tui.app, tui.pilot)
        assert tui.feed.of("JobLogs")[-1] == {"id": JOB, "lines": 2000, "step": "test"}
        lines = ["test step started", "test test_login failed", "test#2 test_login passed"]
        assert log_lines(tui.app) == lines
        chunk = {
            "content": "2026-11-24T06:38:00Z [code] no\n2026-11-24T06:38:00Z [test] yes\n",
            "offset": 9,
        }
        follow(tui.feed).send(logs={JOB: chunk})
        await settle(tui.app, tui.pilot)
        assert log_lines(tui.app) == [*lines, "test yes"]
        await tui.pilot.press("escape")
        await settle(tui.app, tui.pilot)
        assert len(log_lines(tui.app)) == 7
        await tui.pilot.press("escape")
        await settle(tui.app, tui.pilot)
        assert not isinstance(tui.app.screen, JobScreen)
        assert all(each.is_stopped for each in tui.feed.follows[1:])

    see(scenario)


def test_enter_on_the_step_of_an_agent_opens_the_agent() -> None:
    detail_screen = pytest.importorskip("oj_tui.screens.agent_detail")

    async def scenario(tui: Tui) -> None:
        for name in ("AgentPeek", "AgentLogs", "AgentShow"):
            tui.feed.answer(name, Rejected("not here", code="not_found"))
        tui.app.screen.query_one("#steps", Rows).select("code")
        await tui.pilot.press("enter")
        await tui.pilot.pause()
        assert isinstance(tui.app.screen, detail_screen.AgentScreen)

    see(scenario)


def test_the_log_is_searched_from_any_pane() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.pilot.press("slash", *"login", "enter")
        assert pane(tui.app) == "log"
        state = tui.app.screen.query_one(LogPane).state
        assert state.endswith("'login' in 2 of 2 lines: n, N")
        await tui.pilot.press("escape")
        assert isinstance(tui.app.screen, JobScreen)

    see(scenario)


def test_the_story_is_told_when_it_is_opened_and_again_when_asked() -> None:
    async def scenario(tui: Tui) -> None:
        line = {"seq": 7, "at_ms": NOW, "cause": "run:4f", "fact": "job:created", "data": {"a": 1}}
        tui.feed.answer("JobStory", reply("Story", lines=[line], complete=False))
        assert tui.feed.of("JobStory") == []
        await tui.pilot.press("t")
        await settle(tui.app, tui.pilot)
        await tui.shows("job:created", "run:4f", "a=1")
        assert tui.app.said == ["Its beginning is no longer in the log."]
        await tui.pilot.press("R")
        await settle(tui.app, tui.pilot)
        assert tui.feed.of("JobStory") == [{"id": JOB}, {"id": JOB}]

    see(scenario)


def test_a_fact_of_the_story_is_opened_and_closed() -> None:
    async def scenario(tui: Tui) -> None:
        line = {"seq": 7, "at_ms": NOW, "cause": "#6", "fact": "job:created", "data": {"a": 1}}
        tui.feed.answer("JobStory", reply("Story", lines=[line], complete=True))
        await tui.pilot.press("t")
        await tui.shows("a=1")
        await tui.pilot.press("enter")
        await tui.shows("because of #6", '"a": 1')
        await tui.pilot.press("escape")
        await settle(tui.app, tui.pilot)
        assert pane(tui.app) == "story"

    see(scenario)


def test_a_story_that_cannot_be_told_says_so() -> None:
    async def scenario(tui: Tui) -> None:
        tui.feed.answer("JobStory", Rejected("no", code="unauthorized", hint="ask somebody"))
        await tui.pilot.press("t")
        await settle(tui.app, tui.pilot)
        await tui.shows("The story cannot be read; R asks again.")
        assert tui.app.said == ["no\nask somebody"]

    see(scenario)


def test_variables_agents_and_decisions_have_panes() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.pilot.press("v")
        await settle(tui.app, tui.pilot)
        await tui.shows("var.branch")
        for name, word in (("agents", "coder"), ("decisions", "idle, it said: Done?")):
            await tui.pilot.press("tab")
            await settle(tui.app, tui.pilot)
            assert pane(tui.app) == name
            await tui.shows(word)

    see(scenario)


@pytest.mark.parametrize(
    ("key", "request_type", "done"),
    [("c", "JobCancel", "cancelled"), ("z", "JobSuspend", "suspended")],
)
def test_ending_a_job_asks_first(key: str, request_type: str, done: str) -> None:
    async def scenario(tui: Tui) -> None:
        answer = {"already_terminal": [], "not_found": [], done: [JOB]}
        tui.feed.answer(request_type, reply(f"Jobs{done.capitalize()}", **answer))
        await tui.pilot.press(key)
        await tui.pilot.pause()
        assert isinstance(tui.app.screen, Confirm)
        await tui.shows("fix-login (4f9h2k7m)?")
        await tui.pilot.press("enter")
        await settle(tui.app, tui.pilot)
        assert tui.feed.of(request_type) == []
        await tui.pilot.press(key)
        await tui.pilot.pause()
        await tui.pilot.press("y")
        await settle(tui.app, tui.pilot)
        assert tui.feed.of(request_type) == [{"ids": [JOB]}]
        assert tui.app.said == [f"{done}: 4f9h2k7m"]

    see(scenario)


def test_a_suspended_job_with_an_agent_goes_on_with_a_message() -> None:
    async def scenario(tui: Tui) -> None:
        tui.feed.answer("JobResume", reply("JobResumed", id=JOB, steps=["code"], warnings=["slow"]))
        await tui.pilot.press("r")
        await tui.pilot.pause()
        assert isinstance(tui.app.focused, Input)
        await tui.pilot.press("escape")
        await settle(tui.app, tui.pilot)
        assert tui.feed.of("JobResume") == []
        await tui.pilot.press("r")
        await tui.pilot.pause()
        await tui.pilot.press(*"go on", "enter")
        await settle(tui.app, tui.pilot)
        assert tui.feed.of("JobResume") == [{"id": JOB, "message": "go on"}]
        assert tui.app.said == ["resumed at code\nslow"]

    see(scenario, known=job(status="suspended"))


def test_a_failed_job_without_agents_goes_on_at_once() -> None:
    async def scenario(tui: Tui) -> None:
        tui.feed.answer("JobResume", Rejected("its workspace is gone", code="conflict"))
        await tui.pilot.press("r")
        await settle(tui.app, tui.pilot)
        assert tui.feed.of("JobResume") == [{"id": JOB, "message": None}]
        assert tui.app.said == ["its workspace is gone"]

    see(scenario, known=detail(status="failed", steps=[step("test", "failed")]))


def test_a_running_job_cannot_be_resumed() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.pilot.press("r")
        await settle(tui.app, tui.pilot)
        assert tui.app.said == ["it is running: only what failed or was suspended can be resumed"]

    see(scenario)


def test_the_newest_live_agent_is_attached_to() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.pilot.press("a")
        assert tui.app.ran == [("attach", AGENT)]
        follow(tui.feed).send(details=[job(agents=[agent(status="gone")])])
        await settle(tui.app, tui.pilot)
        await tui.pilot.press("a")
        assert tui.app.said == ["no agent of this job is live"]

    see(scenario)


def test_several_questions_are_listed_and_none_is_said() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.pilot.press("d")
        assert pane(tui.app) == "decisions"
        follow(tui.feed).send(details=[job(decisions=[])])
        await settle(tui.app, tui.pilot)
        await tui.shows("No question is open.")
        await tui.pilot.press("d")
        assert tui.app.said == ["no question of this job is open"]

    see(scenario, known=job(decisions=[decision(), decision(id=DECISION[:-1] + "7")]))


def test_a_job_that_was_pruned_stays_and_says_so() -> None:
    async def scenario(tui: Tui) -> None:
        follow(tui.feed).send(missing=[JOB])
        await settle(tui.app, tui.pilot)
        await tui.shows("This job is no more: it was pruned.", "✓ prepare")
        assert follow(tui.feed).is_stopped
        await tui.pilot.press("c")
        await settle(tui.app, tui.pilot)
        assert not isinstance(tui.app.screen, Confirm)

    see(scenario)


def test_what_its_place_waits_for_is_said() -> None:
    words = "no node has room: 0/3 nodes are available: insufficient memory"

    async def scenario(tui: Tui) -> None:
        await tui.shows(f"Why:    {words}", "pod oj-4f9h2k7m")
        assert screens.text(tui.app).count(words) == 1

    place = workspace(status="creating", place="oj-4f9h2k7m", waits_for=words)
    see(scenario, known=job(status="pending", reason=words, workspace=place, steps=[]))


def test_the_id_is_copied() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.pilot.press("y")
        assert tui.app.clipboard == JOB

    see(scenario)
