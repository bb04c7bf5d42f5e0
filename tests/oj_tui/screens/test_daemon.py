from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from textual.pilot import Pilot

from oj_daemon.errors import OjError, WireError
from oj_tui.app import OjApp
from oj_tui.screens.daemon import RESTARTED, DaemonScreen
from oj_tui.screens.job_detail import JobScreen
from oj_tui.widgets.log_pane import LogPane
from oj_tui.widgets.panes import Panes
from tests.oj_tui.test_render_daemon import info
from tests.support import screens
from tests.support.fake_feed import FakeFeed
from tests.support.replies import NOW, OTHER, Message, reply, summary, workspace

LINE = "2026-01-02T03:04:05.678Z INFO oj_daemon.main: ready\n"
REFUSED = OjError("this token may not 'daemon'", code="unauthorized", hint="oj token create")


class Tui(NamedTuple):
    """What a test has at hand."""

    app: OjApp
    pilot: Pilot[Any]
    feed: FakeFeed

    @property
    def screen(self) -> DaemonScreen:
        assert isinstance(self.app.screen, DaemonScreen)
        return self.app.screen

    @property
    def log(self) -> list[str]:
        text = self.screen.query_one(LogPane).log_text
        return [text.line(number) for number in range(text.first, text.end)]

    async def settle(self) -> None:
        """Let everything happen that was begun."""
        await self.pilot.pause()
        await asyncio.wait_for(self.app.workers.wait_for_complete(), 10)
        await self.pilot.pause()

    async def shows(self, *words: str) -> None:
        """Wait until all of this stands on the screen."""
        async with asyncio.timeout(20):
            while not all(each in screens.text(self.app) for each in words):
                await self.pilot.pause(0.01)

    async def poll(self) -> None:
        """As the timer does, which is stopped: here it would ask whenever the machine is slow."""
        self.screen.poll()
        await self.settle()


def log(content: str = LINE, offset: int = 1) -> Message:
    return reply("Log", log_path="", content=content, offset=offset)


def see(
    scenario: Callable[[Tui], Awaitable[None]],
    *,
    size: tuple[int, int] = (80, 24),
    logs: Any = None,
    ticks: bool = False,
) -> None:
    async def run() -> None:
        feed = FakeFeed()
        feed.answer("DaemonStatus", info())
        feed.answer("DaemonLogs", logs or log())
        app = OjApp(feed, start="daemon", now=lambda: NOW)
        async with app.run_test(size=size) as pilot:
            pod = workspace(
                id="wks-2", place="oj-4f9h", status="creating", waits_for="no node has room", owner=f"job:{OTHER}",
            )  # fmt: skip
            feed.follows[0].send(
                is_snapshot=True, jobs=[summary(), summary(id=OTHER)], workspaces=[workspace(), pod]
            )
            tui = Tui(app, pilot, feed)
            await tui.settle()
            if tui.screen._timer is not None and not ticks:
                tui.screen._timer.stop()
            await scenario(tui)

    asyncio.run(run())


def test_health_is_shown_first() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.shows("because no container is named")
        screens.compare(tui.app, "daemon")

    see(scenario)


def test_the_scroll_bar_cuts_nothing_off_a_setting() -> None:
    async def scenario(tui: Tui) -> None:
        reason = "r" * (80 - len("name00  value  because ") - 1) + "Z"
        many = [{"name": f"name{at:02}", "value": "value", "reason": reason} for at in range(40)]
        tui.feed.answer("DaemonStatus", info(settings=many))
        await tui.poll()
        await tui.shows("name00")
        tui.screen.draw()
        await tui.shows("rZ")

    see(scenario)


def test_places_are_shown_with_what_they_wait_for_and_lead_to_their_jobs() -> None:
    async def scenario(tui: Tui) -> None:
        tui.feed.answer("JobLogs", log())
        await tui.pilot.press("p")
        await tui.settle()
        await tui.shows("pod oj-4f9h", "no node")
        await tui.pilot.press("enter")
        await tui.settle()
        assert isinstance(tui.app.screen, JobScreen)
        assert tui.app.screen.job_id == OTHER

    see(scenario)


def test_the_log_goes_on_where_the_last_answer_ended() -> None:
    async def scenario(tui: Tui) -> None:
        tui.feed.answer("DaemonLogs", log("second\n", 2))
        await tui.poll()
        tui.feed.answer("DaemonLogs", log("", 2))
        await tui.poll()
        assert tui.feed.of("DaemonLogs") == [{"lines": 500}, {"offset": 1}, {"offset": 2}]
        assert tui.log == [LINE.rstrip("\n"), "second"]

    see(scenario)


@pytest.mark.parametrize("other", [{"pid": 43}, {"epoch": 99}])
def test_the_log_of_another_daemon_is_read_from_its_tail(other: Message) -> None:
    async def scenario(tui: Tui) -> None:
        tui.feed.answer("DaemonStatus", info(**other))
        tui.feed.answer("DaemonLogs", log("new\n", 9))
        await tui.poll()
        assert tui.feed.of("DaemonLogs")[-1] == {"lines": 500}
        assert tui.log[1:] == [RESTARTED, "new"]

    see(scenario)


def test_a_log_that_is_refused_is_said_in_words_and_asked_for_once() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.pilot.press("l")
        await tui.poll()
        await tui.shows("The log is not for this token: this token may not 'daemon'")
        assert len(tui.feed.of("DaemonStatus")) == 2
        assert len(tui.feed.of("DaemonLogs")) == 1
        assert not list(tui.app._notifications)

    see(scenario, logs=REFUSED)


def test_a_daemon_that_cannot_be_asked_leaves_what_was_known() -> None:
    async def scenario(tui: Tui) -> None:
        tui.feed.answer("DaemonStatus", WireError("nobody answers", code="unreachable"))
        await tui.poll()
        await tui.shows("Trouble        nobody answers", "Version        1.2.3")
        assert not list(tui.app._notifications)
        tui.feed.answer("DaemonStatus", info())
        await tui.poll()
        assert "Trouble" not in screens.text(tui.app)

    see(scenario)


def test_it_is_asked_again_and_again_while_it_is_in_front_and_only_then() -> None:
    async def scenario(tui: Tui) -> None:
        async def asked(count: int) -> None:
            while len(tui.feed.of("DaemonStatus")) < count:
                await tui.pilot.pause(0.01)

        await asyncio.wait_for(asked(2), 20)
        timer = tui.screen._timer
        is_asked = []
        for key in ("2", "5"):
            await tui.pilot.press(key)
            await tui.settle()
            is_asked.append(timer is not None and timer._active.is_set())
        assert is_asked == [False, True]

    see(scenario, ticks=True)


def test_where_there_is_room_health_stands_beside_the_places() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.shows("● running", "pod oj-4f9h")
        await tui.pilot.press("tab", "tab")
        await tui.settle()
        assert tui.screen.query_one(Panes).current == "log"
        await tui.shows("oj_daemon.main: ready")

    see(scenario, size=(140, 40))


def test_its_log_is_searched() -> None:
    async def scenario(tui: Tui) -> None:
        await tui.pilot.press("slash", *"ready", "enter")
        await tui.shows("'ready' in 1 of 1 lines")
        await tui.pilot.press("escape")
        assert "'ready'" not in tui.screen.query_one(LogPane).state

    see(scenario)
