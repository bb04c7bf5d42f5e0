"""`oj tui` as a person meets it: the real program on a real terminal, against the real daemon and the scripted agent."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import psutil
import pytest

from tests.e2e.test_decisions import QUESTION
from tests.support.agents import decision, equip, runbook, scenario
from tests.support.far import Far
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


def leave(pane: Pane) -> None:
    """Quit; the shell is back."""
    pane.press("q")
    pane.until_not("1 Overview")
    pane.run(["echo", "it is over"])
    pane.until("(?m)^it is over")


def terminal_of(pane: Pane, when: str) -> tuple[str, str]:
    """The state of the terminal, as tmux and the kernel know it."""
    pane.press("C-l")
    pane.run(["sh", "-c", f"echo {when}: $(stty -g | cksum)"])
    found = re.search(rf"(?m)^{when}: (\d+ \d+)", pane.until(rf"(?m)^{when}: \d+ \d+"))
    assert found is not None
    return pane.state(), found[1]


def test_a_job_is_watched_its_question_answered_its_agent_visited_and_the_terminal_left_as_it_was(
    shop: World, pane: Pane
) -> None:
    runbook(shop, steps=STEPS)
    scenario(shop, otherwise=[QUESTION, {"say": "Thanks."}])
    shop.oj("daemon", "start")
    before = terminal_of(pane, "before")

    pane.run([*OJ, "tui"])
    pane.until("Overview")
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
    pane.until("Overview")

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

    leave(pane)
    assert terminal_of(pane, "after") == before


def test_a_daemon_that_goes_away_is_told_and_the_view_goes_on_where_it_was_when_it_is_back(
    shop: World, pane: Pane
) -> None:
    runbook(shop, steps='step "only" { run = "echo here; until [ -e go ]; do sleep 0.05; done" }')
    job_id = shop.start("build")
    pane.run([*OJ, "tui", job_id])
    pane.until("only")
    pane.press("l")
    pane.until("only here")
    shop.kill_daemon()
    told = pane.until("looking for the daemon again")
    assert "only here" in told
    shop.oj("daemon", "start")
    pane.until_not("looking for the daemon again")
    (shop.project / "go").touch()
    shown = pane.until("job completed")
    assert shown.count("only here") == 1
    leave(pane)


def test_it_fits_into_80_columns_and_into_next_to_nothing_and_grows_again(
    shop: World, pane: Pane
) -> None:
    runbook(shop, steps='step "only" { run = "true" }')
    job_id = shop.start("build")
    pane.run([*OJ, "tui", "jobs"])
    pane.until(job_id[4:12])
    for cols, rows in ((80, 24), (20, 5), (200, 50)):
        pane.resize(cols, rows)
        pane.until("2 Jobs")
    pane.until(rf"{job_id[4:12]}.*completed")
    leave(pane)


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_again(
    shop: World, pane: Pane
) -> None:
    shop.oj("daemon", "start")
    before = terminal_of(pane, "before")
    pane.run([*OJ, "tui"])
    pane.until("Nothing needs you")
    pane.press("C-z")
    pane.until("Stopped")
    assert terminal_of(pane, "stopped") == before
    pane.run(["fg"])
    pane.until("Nothing needs you")
    runbook(shop, steps='step "only" { run = "false" }')
    shop.oj("run", "--detach", "build")
    pane.until("Failed lately")
    leave(pane)
    assert terminal_of(pane, "after") == before


def test_a_terminated_view_leaves_the_terminal_as_it_was(shop: World, pane: Pane) -> None:
    shop.oj("daemon", "start")
    before = terminal_of(pane, "before")
    pane.run([*OJ, "tui"])
    pane.until("Nothing needs you")
    viewer = next(
        each
        for each in psutil.process_iter(["cmdline", "environ"])
        if each.info["cmdline"] == [*OJ, "tui"]
        and (each.info["environ"] or {}).get("OJ_STATE_DIR") == shop.environ["OJ_STATE_DIR"]
    )
    viewer.terminate()
    pane.until_not("1 Overview")
    assert terminal_of(pane, "after") == before


def test_it_is_the_same_from_far_away(shop: World) -> None:
    """Over TLS, with a token: the picture, an answer, the agent's terminal, and a daemon that comes back."""
    far = Far(shop)
    pane = Pane(shop.folder, shop.environ, shop.project)
    try:
        told = shop.project / "agent-scenario.json"  # it works in a folder of the daemon's machine
        runbook(shop, f'env = {{ AGENT_SCENARIO = "{told}" }}', steps=STEPS)
        scenario(shop, otherwise=[QUESTION, {"say": "Thanks."}])
        job_id = shop.start("build")
        decision(shop)
        pane.run([*OJ, "tui", job_id])
        pane.until("Agents 1")
        pane.press("a")
        pane.until("1. Postgres")
        pane.press("C-]")
        pane.until("Overview")
        shop.kill_daemon()
        pane.until("looking for the daemon again")
        far.start()
        pane.until_not("looking for the daemon again")
        pane.press("d")
        pane.until("2. SQLite")
        pane.press("2")
        pane.until("step completed|completed .*s")
        assert shop.finish(job_id)["status"] == "completed"
        pane.press("5")
        pane.until("tls://")
        leave(pane)
    finally:
        pane.close()
        far.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "no entity found matching 'nonsense'"),
        (["jobs", "-o", "json"], "cannot be shown as JSON"),
    ],
)
def test_what_is_wrong_is_said_before_the_view_takes_the_screen(
    shop: World, pane: Pane, words: list[str], said: str
) -> None:
    shop.oj("daemon", "start")
    pane.run([*OJ, "tui", *words])
    pane.until(said)


def test_without_a_terminal_it_says_what_to_use_instead(shop: World) -> None:
    refused = shop.oj("tui", code=1)
    assert "is not a terminal" in refused.err
    assert "oj status --watch" in refused.err


def test_a_picture_is_made_without_a_terminal(shop: World) -> None:
    runbook(shop, steps='step "only" { run = "true" }')
    job_id = shop.start("build")
    shop.finish(job_id)
    made = shop.oj("tui", "jobs", "--screenshot", "jobs.svg")
    assert made.out == ""
    picture = (shop.project / "jobs.svg").read_text()
    assert picture.startswith("<svg")
    assert job_id[4:12] in picture
    assert "http" not in picture.replace("http://www.w3.org/", "")  # it loads nothing from anywhere
    shop.oj("tui", job_id, "--screenshot", "job.svg")
    assert "only" in (shop.project / "job.svg").read_text()
    shop.oj("daemon", "stop")
    gone = shop.oj("tui", "--screenshot", "none.svg", code=1)
    assert "Daemon not running" in gone.err
    assert not (shop.project / "none.svg").exists()
