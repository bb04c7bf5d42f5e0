"""`oj tui` as a person meets it: the real program on a real terminal, against the real daemon and the scripted agent."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.e2e.test_decisions import QUESTION
from tests.support.agents import decision, equip, runbook, scenario
from tests.support.tmux import Pane, needs_tmux
from tests.support.waiting import until
from tests.support.world import World

pytestmark = needs_tmux

OJ = [sys.executable, "-m", "oj_cli"]
STEPS = """
step "prepare" {
  run     = "echo prepared"
  on_done = [{ step = "code" }]
}
step "code" {
  run     = { agent = "coder" }
  on_done = [{ step = "finish" }]
}
step "finish" { run = "echo finished" }
"""


@pytest.fixture
def shop(world: World) -> World:
    return equip(world)


@pytest.fixture
def pane(shop: World) -> Iterator[Pane]:
    made = Pane(shop.folder, shop.environ, shop.project)
    try:
        yield made
    finally:
        made.close()


def terminal_of(pane: Pane) -> tuple[str, str]:
    """The state of the terminal, as tmux and the kernel know it."""
    pane.press("C-l")
    pane.run(["stty", "-a"])
    text = pane.until(r"-?tostop")
    return pane.state(), text[text.index("speed") :]


def test_a_job_is_watched_its_question_answered_its_agent_visited_and_the_terminal_left_as_it_was(
    shop: World, pane: Pane
) -> None:
    runbook(shop, steps=STEPS)
    scenario(shop, otherwise=[QUESTION, {"say": "Thanks."}])
    shop.oj("daemon", "start")
    before = terminal_of(pane)

    pane.run([*OJ, "tui"])
    pane.until("1 Overview")
    job_id = shop.start("build")
    view = decision(shop)
    pane.until("Which database")

    pane.press("2")
    pane.until(rf"{job_id[4:12]}.*build")
    pane.press("Enter")
    pane.until("prepare")
    pane.until("code")

    pane.press("a")  # attach, and come back
    pane.until("Postgres")
    pane.press("C-]")
    pane.until("1 Overview")

    pane.press("d")
    pane.until("Which database")
    pane.press("2")
    until(lambda: not shop.oj("decision", "list", "-o", "json").json, 60, pane.text)
    assert shop.finish(job_id)["status"] == "completed"
    told = shop.oj("decision", "show", view["id"]).out
    assert "SQLite" in told
    assert "(tui)" in told

    pane.until("Variables")  # back at the job, which goes on
    pane.until(r"completed .*s  ")
    pane.press("Escape")
    pane.until(r"NAME +PROJECT")
    pane.until(rf"{job_id[4:12]}.*completed")
    pane.press("/")
    pane.type("nothing-like-this")
    pane.until_not(rf"{job_id[4:12]}")
    pane.press("Escape")
    pane.until(rf"{job_id[4:12]}.*completed")

    pane.press("q")
    pane.until_not("1 Overview")
    assert terminal_of(pane) == before
