"""`oj status`: what is going on, by project."""

from __future__ import annotations

import json
import re
import signal

import pytest

from tests.support.world import World

SLOW = 'step "work" { run = "sleep 300" }'


def sections(text: str) -> dict[str, list[str]]:
    """The sections of each project: `project/section` -> its rows."""
    found: dict[str, list[str]] = {}
    project = section = ""
    for line in text.splitlines():
        if rule := re.match(r"── (\S+) ─+", line):
            project = rule[1]
        elif heading := re.match(r"  (\w[\w ]*) \((\d+)[^)]*\):", line):
            section = f"{project}/{heading[1]}"
            found[section] = []
        elif line.startswith("    ") and "→" not in line:
            found[section].append(line)
    return found


@pytest.fixture
def busy(world: World) -> World:
    """Two projects: two running jobs and a suspended one here, a failed one there."""
    bakery = world.other_project("bakery", 'step "work" { run = "exit 3" }')
    world.job(SLOW, args="<name>")
    for name in ("one", "two"):
        world.until_running(world.start("build", name), "work")
    paused = world.start("build", "paused")
    world.oj("suspend", paused)
    world.until_status(paused, "suspended")
    world.run("build", code=1, cwd=bakery)
    return world


def test_the_header_counts_what_the_sections_show_and_projects_are_sorted(busy: World) -> None:
    """C81."""
    shown = busy.oj("status").out
    found = sections(shown)
    assert list(found) == ["bakery/Recent failures", "shop/Jobs", "shop/Suspended"]
    assert [len(rows) for rows in found.values()] == [1, 2, 1]
    header = shown.splitlines()[0]
    assert header.startswith("oj daemon: running ")
    for part in ("2 active jobs", "1 suspended", "1 recent failure"):
        assert f" | {part}" in header
    assert [row.split()[1] for row in found["shop/Jobs"]] == ["two", "one"]
    assert "exit code: 3" in shown


def test_with_a_project_only_that_one_is_shown(busy: World) -> None:
    """C81."""
    assert list(sections(busy.oj("status", "--project", "bakery").out)) == [
        "bakery/Recent failures"
    ]
    assert sections(busy.oj("status", "--project", "nosuch").out) == {}
    told = busy.oj("status", "--project", "shop", "-o", "json").json
    assert [project["project"] for project in told["projects"]] == ["shop"]


def test_the_status_as_json_has_uptime_and_projects(busy: World) -> None:
    """C83."""
    told = busy.oj("status", "-o", "json").json
    assert isinstance(told["uptime_secs"], int)
    shop = told["projects"][1]
    assert [job["name"] for job in shop["active_jobs"]] == ["two", "one"]
    assert [job["name"] for job in shop["suspended_jobs"]] == ["paused"]


def test_an_idle_daemon_says_that_nothing_is_active(world: World) -> None:
    """C81: empty projects are hidden."""
    world.oj("daemon", "start")
    world.job('step "work" { run = "true" }')
    world.run("build")
    assert sections(world.oj("status").out) == {}


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_watch_in_a_pipe_gives_frame_after_frame_and_ends_by_control_c(
    shop: World, form: str
) -> None:
    """C83."""
    child = shop.spawn("status", "--watch", "--interval", "1s", "-o", form)
    assert child.stdout is not None
    frames: list[str] = []
    while len(frames) < 2:
        line = child.stdout.readline()
        if form == "json":
            assert "uptime_secs" in json.loads(line)
        assert "\x1b" not in line
        if form == "json" or line.startswith("oj daemon: running"):
            frames.append(line)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")


@pytest.mark.parametrize("interval", ["0", "soon", "-1s"])
def test_an_interval_that_makes_no_sense_is_refused(shop: World, interval: str) -> None:
    """C83."""
    refused = shop.oj("status", "--watch", f"--interval={interval}", code=None)
    assert refused.code in (1, 2)
    assert "Error:" in refused.err
    assert refused.out == ""
