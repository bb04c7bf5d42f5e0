from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.app import ComposeResult
from textual.pilot import Pilot
from textual.widgets import Static

from oj_daemon.errors import OjError, WireError
from oj_tui.app import OjApp
from oj_tui.crash import CrashLog
from oj_tui.feed import News
from oj_tui.screens.confirm import Confirm
from oj_tui.screens.open import open_by_id
from oj_tui.screens.page import Page
from oj_tui.widgets.log_pane import LogPane
from oj_tui.widgets.table import Table
from tests.support import screens
from tests.support.fake_feed import FakeFeed
from tests.support.live_view import answered, play, refuse_all, told
from tests.support.replies import AGENT, JOB, NOW, agent, decision, reply, summary

KNOWN = {"jobs": [summary()], "agents": [agent()], "decisions": [decision()]}
GONE = WireError("cannot reach the daemon", hint="oj daemon start")


# Keys that others give a meaning


def test_ctrl_c_ends_nothing_and_says_what_quits() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("ctrl+c")
        assert app.is_running
        assert told(app) == ["q quits; jobs and agents go on"]

    play(scenario, known=KNOWN)


# Modes


@pytest.mark.parametrize(
    ("key", "mode"),
    [("1", "overview"), ("2", "jobs"), ("3", "agents"), ("4", "decisions"), ("5", "daemon")],
)
def test_a_number_goes_to_a_mode(key: str, mode: str) -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        refuse_all(feed)
        await pilot.press(key)
        assert app.current_mode == mode

    play(scenario, known=KNOWN, start="jobs" if mode != "jobs" else "overview")


@pytest.mark.usefixtures("plain_screens")
def test_the_number_of_the_current_mode_goes_back_to_its_list() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        base = app.screen
        await pilot.press("enter")
        assert app.screen is not base
        await pilot.press("2")
        assert app.screen is base

    play(scenario, known=KNOWN)


def test_a_mode_is_found_as_it_was_left() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("j", "1", "2")
        assert app.screen.query_one(Table).key == "job-2"

    play(scenario, known={"jobs": [summary(), summary(id="job-2", updated_at_ms=1)]})


def test_another_mode_shows_at_once_what_is_known() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("2")
        await pilot.pause()
        assert "fix-login" in screens.text(app)

    play(scenario, known=KNOWN, start="overview")


# The daemon


def test_a_connection_that_is_lost_is_told_and_what_was_known_stays() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        await pilot.press("j")
        feed.follows[0].lose(GONE)
        await pilot.pause()
        lines = screens.lines(app)
        assert lines[1].startswith(
            "looking for the daemon again (oj daemon start); shown is what was known: cannot"
        )
        assert "fix-login" in lines[3]
        feed.follows[0].send(jobs=[])
        await pilot.pause()
        assert "cannot reach" not in screens.text(app)
        assert app.screen.query_one(Table).key == JOB

    play(scenario, known=KNOWN)


@pytest.mark.parametrize(
    ("key", "claim"),
    [("2", "No jobs yet"), ("3", "No agents yet"), ("4", "Nobody waits"), ("5", "No workspaces")],
)
def test_before_anything_was_told_the_view_says_that_it_asks_and_claims_nothing(
    key: str, claim: str
) -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        refuse_all(feed)
        await pilot.press(key)
        await pilot.pause()
        assert screens.lines(app)[1] == "asking the daemon ..."
        assert claim not in screens.text(app)
        feed.follows[0].send(is_snapshot=True)
        await pilot.pause()
        assert claim in screens.text(app)

    play(scenario, known=None, start="overview", size=(110, 34))


def test_a_daemon_that_cannot_be_asked_at_all_is_told_with_what_to_type() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        feed.follows[0].lose(GONE)
        await pilot.pause()
        assert screens.lines(app)[1] == (
            "looking for the daemon again (oj daemon start): cannot reach the daemon"
        )

    play(scenario, known=None)


def test_a_page_below_a_question_goes_on_being_drawn() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        await app.push_screen(Confirm("Sure?"))
        feed.follows[0].send(jobs=[summary(name="renamed")])
        await pilot.pause()
        assert "renamed" in screens.text(app)

    play(scenario, known=KNOWN)


def test_what_the_daemon_refuses_is_told_with_what_to_do() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        feed.answer("JobShow", OjError("no job '[x]'", hint="oj job list"))
        assert await app.ask("JobShow", id="[x]") is None
        await pilot.pause()
        assert told(app) == ["no job '[x]'\noj job list"]

    play(scenario, known=KNOWN)


# Errors that nobody expected


class Faulty(Page):
    """Everything on it fails."""

    BINDINGS = [("x", "fail", "Fail")]  # noqa: RUF012 - as short as can be

    def body(self) -> ComposeResult:
        """Something to look at."""
        yield Static("still here")

    def fill(self) -> None:
        """Fails."""
        raise ValueError("while drawing")

    def action_fail(self) -> None:
        """Fails."""
        raise ValueError("in a handler")


def test_an_error_in_a_screen_is_told_and_the_view_goes_on(tmp_path: Path) -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        await app.push_screen(Faulty())
        await pilot.press("x", "x")
        feed.follows[0].send(jobs=[])
        await pilot.pause()
        assert feed.follows[0].taken_count == 2
        assert [words.split("\n")[0] for words in told(app)] == [
            "a bug in oj tui: ValueError: while drawing",
            "a bug in oj tui: ValueError: in a handler",
        ]
        assert "still here" in screens.text(app)
        await pilot.press("1")
        assert app.current_mode == "overview"

    play(scenario, known=KNOWN, crashes=CrashLog(tmp_path))
    assert (tmp_path / "tui.log").read_text().count("Traceback") == 2


def test_an_error_in_the_app_itself_is_told_and_the_view_goes_on(tmp_path: Path) -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        feed.follows[0].send(jobs=[])
        feed.follows[0]._tell(News(feed.follows[0], {"jobs": [{}]}))
        await pilot.pause()
        assert [words.split("\n")[0] for words in told(app)] == [
            "a bug in oj tui: KeyError: 'id'",
        ]
        assert feed.follows[0].taken_count == 3
        await pilot.press("1")
        assert app.current_mode == "overview"

    play(scenario, known=KNOWN, crashes=CrashLog(tmp_path))


def test_an_error_in_a_worker_is_told_and_the_view_goes_on(tmp_path: Path) -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        def fail(_asked: object) -> dict[str, object]:
            raise ValueError("no answer that anybody expects")

        feed.answer("JobResume", fail)
        await pilot.press("r")
        while not told(app):
            await pilot.pause()
        assert "no answer that anybody expects" in told(app)[0]
        await pilot.press("1")
        assert app.current_mode == "overview"

    play(scenario, known=KNOWN, crashes=CrashLog(tmp_path))


def test_without_a_place_to_write_them_errors_end_the_view() -> None:
    async def scenario(app: OjApp, _pilot: Pilot[None], _feed: FakeFeed) -> None:
        await app.push_screen(Faulty())

    with pytest.raises(ValueError, match="while drawing"):
        play(scenario, known=KNOWN)


# Help, themes, sizes


def test_help_tells_every_key_of_the_screen() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("question_mark")
        await pilot.pause()
        screens.compare(app, "help")
        await pilot.press("question_mark")
        assert app.screen.id != "help"
        assert isinstance(app.screen, Page)

    play(scenario, known=KNOWN, size=(80, 40))


def test_help_that_does_not_fit_can_be_scrolled() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("question_mark")
        assert "Dark, light" not in screens.text(app)
        await pilot.press(*["j"] * 30)
        assert "Dark, light" in screens.text(app)
        await pilot.press("escape")
        assert isinstance(app.screen, Page)

    play(scenario, known=KNOWN, size=(80, 24))


def test_t_goes_from_dark_to_light_and_back() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        themes = [app.current_theme.dark]
        for _ in range(2):
            await pilot.press("t")
            themes.append(app.current_theme.dark)
        assert themes == [True, False, True]

    play(scenario, known=KNOWN)


def test_without_colours_the_cursor_can_still_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario() -> None:
        feed = FakeFeed()
        app = OjApp(feed, start="jobs", now=lambda: NOW)
        async with app.run_test(size=(80, 24)) as pilot:
            feed.follows[0].send(is_snapshot=True, jobs=[summary(), summary(id="job-2")])
            await pilot.pause()
            strips = app.screen._compositor.render_strips()
            backs = [
                {segment.style.bgcolor.get_truecolor() for segment in strip if segment.style and segment.style.bgcolor}
                for strip in strips[2:4]
            ]  # fmt: skip
            assert all(red == green == blue for each in backs for red, green, blue in each)
            assert backs[0] != backs[1]

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", ["overview", "jobs"])
def test_no_size_is_too_small(mode: str) -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        for size in ((80, 24), (40, 12), (20, 5), (3, 2), (1, 1)):
            await pilot.resize_terminal(*size)
            await pilot.press("j", "question_mark", "escape", "colon", "escape")
            await app.push_screen(Confirm("Cancel it?", "It is ended."))
            await pilot.press("n")
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "fix-login" in screens.text(app)

    play(scenario, known=KNOWN, start=mode, size=(100, 30))


@pytest.mark.usefixtures("plain_screens")
def test_the_palette_finds_what_has_a_name_and_opens_it() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        for typed, shown in (("open agent cod", AGENT), ("open job fix", JOB)):
            await pilot.press("ctrl+p", *["space" if each == " " else each for each in typed])
            await answered(app, pilot)
            await pilot.press("down", "enter")
            await answered(app, pilot)
            assert getattr(app.screen, "shows", None) == shown
            await pilot.press("escape")

    play(scenario, known=KNOWN)


def test_the_palette_attaches_to_agents_that_are_up() -> None:
    ran: list[tuple[str, ...]] = []

    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        # Headless: there is no terminal to lend.
        app.run_oj = lambda *words: ran.append(words)  # type: ignore[method-assign]
        await pilot.press("ctrl+p", *"attach")
        await answered(app, pilot)
        assert "agt-ended" not in screens.text(app)
        await pilot.press("down", "enter")
        await answered(app, pilot)
        assert ran == [("attach", AGENT)]

    ended = agent(id="agt-ended", name="ended", status="gone")
    play(scenario, known={**KNOWN, "agents": [agent(), ended]})


def test_the_palette_goes_to_modes_before_anything_is_typed() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("ctrl+p")
        await answered(app, pilot)
        for words in ("Choose a theme", "Go to agents", "Jump to", "Quit"):
            assert words in screens.text(app)

    play(scenario, known=KNOWN, size=(80, 40))


def test_a_name_of_others_is_no_markup_in_the_palette() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        await pilot.press("ctrl+p", *"open")
        await answered(app, pilot)
        assert "Open job [bold]x[/" in screens.text(app)

    play(scenario, known={"jobs": [summary(name="[bold]x[/")]}, size=(80, 40))


def test_text_of_others_in_a_notice_cannot_act_on_the_terminal() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], _feed: FakeFeed) -> None:
        app.tell_error(OjError("no job \x1b[2J", hint="oj job \x9b2J"))
        app.screen.notify("resumed\n\x1b]52;c;eA==\x07", markup=False)
        await pilot.pause()
        assert told(app) == ["no job ^[[2J\noj job \\u009b2J", "resumed\n^[]52;c;eA==^G"]

    play(scenario, known=KNOWN)


def test_why_the_daemon_is_away_cannot_act_on_the_terminal() -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        feed.follows[0].lose(WireError("gone \x1b[2J", hint="look \x1b[2J"))
        await pilot.pause()
        shown = screens.text(app)
        assert "looking for the daemon again (look ^[[2J)" in shown
        assert "\x1b" not in shown

    play(scenario, known=KNOWN, size=(200, 24))


@pytest.mark.parametrize("shown", [JOB, AGENT])
def test_news_that_cannot_be_shown_do_not_stop_those_that_follow(
    shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LookupError

    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        refuse_all(feed)
        feed.answer("JobLogs", reply("Log", log_path="", content="", offset=0))
        feed.answer("AgentLogs", reply("Logs", logs=[], is_over=False))
        feed.answer("AgentPeek", OjError("refused"))
        await open_by_id(app, shown, start="log")
        async with asyncio.timeout(20):
            while not feed.follows[-1].fields.get("logs"):
                await pilot.pause(0.01)
        monkeypatch.setattr(LogPane, "add", fail)
        feed.follows[-1].send(logs={shown: {"content": "more", "offset": 4}})
        await pilot.pause()
        assert feed.follows[-1].taken_count == 1

    play(scenario, known=KNOWN, crashes=CrashLog(tmp_path))
