"""Every theme can be read: what is written stands out from what is behind it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from textual.color import Color
from textual.pilot import Pilot

from oj_tui.app import DARK, LIGHT, OjApp
from oj_tui.screens.open import SCREENS, open_by_id
from tests.support.fake_feed import FakeFeed
from tests.support.live_view import play
from tests.support.replies import AGENT, DECISION, JOB, agent, decision, detail, node, step, summary

LEAST = 2.0
"""Contrast, as WCAG 2 defines it, of what is meant to be seen least; from 1 (none) to 21 (black on white)."""
KNOWN: dict[str, Any] = {
    "jobs": [summary(status="failed", reason="it broke")],
    "agents": [agent()],
    "decisions": [decision()],
}


def luminance(color: Color) -> float:
    """Relative luminance, by the formula of WCAG 2."""
    shares = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in color.normalized
    )
    red, green, blue = shares
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Color, other: Color) -> float:
    """How well one stands out from the other."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def faint(app: OjApp) -> list[str]:
    """What is written and can hardly be seen."""
    found = []
    for strip in app.screen._compositor.render_strips():
        for segment in strip:
            style = segment.style
            if style is None or not segment.text.strip() or not style.color or not style.bgcolor:
                continue
            ink, paper = Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)
            if segment.text.strip(" ─│╭╮╰╯▔▁▏▌┌└├▊▎") and contrast(ink, paper) < LEAST:
                found.append(segment.text)
    return found


@pytest.mark.parametrize("theme", [DARK, LIGHT])
@pytest.mark.parametrize(
    "what", ["overview", "jobs", "agents", "decisions", "daemon", JOB, AGENT, DECISION]
)
def test_everything_can_be_read(theme: str, what: str) -> None:
    async def scenario(app: OjApp, pilot: Pilot[None], feed: FakeFeed) -> None:
        app.theme = theme
        if "-" in what:
            await open_by_id(app, what)
            await pilot.pause()
            feed.follows[-1].send(
                details=[detail(graph=[node("a", "b"), node("b")], steps=[step("a")])]
            )
        await pilot.pause()
        await pilot.pause()
        assert faint(app) == []

    play(scenario, known=KNOWN, start="jobs" if "-" in what else what, size=(120, 36))


def test_every_id_has_a_screen_that_is_there() -> None:
    assert {getattr(import_module(module), name).__name__ for module, name in SCREENS.values()} == {
        "JobScreen",
        "AgentScreen",
        "DecisionScreen",
    }
