"""Ending a step ends everything it started, and a step that has ended leaves nothing behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.waiting import until
from tests.support.world import World, alive, ran

DEAF = 'trap "" TERM INT HUP; echo $BASHPID >>$PIDS; while :; do sleep 1; done'
TREES = {
    "plain": "echo $$ >>$PIDS; sleep 600",
    "children": "for i in 1 2 3; do sleep 600 & echo $! >>$PIDS; done; wait",
    "deaf": DEAF,
    "own session": f"setsid bash -c '{DEAF}' & wait",
    "double fork": f"( ( {DEAF} ) & ) ; echo $$ >>$PIDS; sleep 600",
    "double fork of a session": f"(setsid bash -c '{DEAF}' &); echo $$ >>$PIDS; sleep 600",
    "nohup": "nohup sleep 600 >/dev/null 2>&1 & echo $! >>$PIDS; sleep 600",
    "many": "for i in $(seq 30); do sleep 600 & echo $! >>$PIDS; done; wait",
    "stopped": "bash -c 'echo $$ >>$PIDS; kill -STOP $$' & echo $$ >>$PIDS; sleep 600",
}
"""Scripts that each start something that is hard to end, and write down whom they started."""


def write(world: World, script: str, *, attributes: str = "") -> Path:
    """A job whose one step is the script; returns the file into which it writes its processes."""
    pids = world.project / "pids"
    pids.unlink(missing_ok=True)
    world.job(
        f'step "work" {{\n  run = <<SH\n{script}\nSH\n  env = {{ PIDS = "{pids}" }}\n{attributes}\n}}'
    )
    return pids


def members(pids: Path, count: int) -> list[int]:
    """Wait until so many processes have written themselves down."""
    until(lambda: pids.exists() and len(pids.read_text().split()) >= count, 60, "the tree is up")
    return [int(word) for word in pids.read_text().split()]


def gone(world: World, tree: list[int]) -> None:
    until(
        lambda: not any(map(alive, tree)) and not world.survivors(),
        30,
        lambda: f"{[pid for pid in tree if alive(pid)]} and {world.survivors()} are left",
    )


COUNTS = {"children": 3, "double fork": 2, "double fork of a session": 2, "many": 30, "stopped": 2}


@pytest.mark.parametrize("kind", TREES)
def test_cancelling_ends_every_process_of_the_step(shop: World, kind: str) -> None:
    """A151, 8.6."""
    pids = write(shop, TREES[kind])
    job_id = shop.start("build")
    tree = members(pids, COUNTS.get(kind, 1))
    shop.oj("cancel", job_id)
    assert shop.finish(job_id)["status"] == "cancelled"
    gone(shop, tree)


@pytest.mark.parametrize("how", ["suspend", "timeout"])
def test_suspend_and_timeout_end_every_process_as_well(shop: World, how: str) -> None:
    """A151, 8.6."""
    pids = write(
        shop,
        TREES["double fork"],
        attributes='timeout = "1500ms"' if how == "timeout" else "",
    )
    job_id = shop.start("build")
    tree = members(pids, 2)
    if how == "suspend":
        shop.oj("suspend", job_id)
    assert shop.finish(job_id)["status"] == ("failed" if how == "timeout" else "suspended")
    gone(shop, tree)


@pytest.mark.parametrize("code", [0, 3])
def test_what_a_step_left_in_the_background_ends_with_it(shop: World, code: int) -> None:
    """Issue 2.5: nothing is left behind."""
    pids = write(
        shop, f"(setsid sleep 600 & echo $! >>$PIDS)\nsleep 600 & echo $! >>$PIDS\nexit {code}"
    )
    job = shop.run("build", code=int(code != 0))
    gone(shop, members(pids, 2))
    assert job["steps"][0]["exit_code"] == code


def test_a_step_that_was_killed_by_somebody_fails_with_the_signal(shop: World) -> None:
    """Spec 2.8."""
    pids = write(shop, "echo $$ >>$PIDS; sleep 600")
    job_id = shop.start("build")
    os.kill(members(pids, 1)[0], signal.SIGKILL)
    job = shop.finish(job_id)
    assert ran(job) == ["work failed"]
    assert "137" in job["error"] or "SIGKILL" in job["error"] or "signal" in job["error"]


def test_a_step_has_a_process_group_of_its_own_outside_of_the_daemons(shop: World) -> None:
    """D5."""
    pids = write(shop, "echo $$ >>$PIDS; sleep 600")
    job_id = shop.start("build")
    (pid,) = members(pids, 1)
    assert os.getsid(pid) != os.getsid(shop.daemon_pid)
    assert os.getpgid(pid) != os.getpgid(shop.daemon_pid)
    shop.oj("cancel", job_id)
    gone(shop, [pid])


def test_a_process_of_another_job_is_left_alone(shop: World) -> None:
    """Ending is exact."""
    pids = write(shop, "echo $$ >>$PIDS; sleep 600")
    first, second = shop.start("build"), shop.start("build")
    tree = members(pids, 2)
    shop.oj("cancel", first)
    assert shop.finish(first)["status"] == "cancelled"
    until(lambda: sum(map(alive, tree)) == 1, 30, "one of the two is gone")
    assert shop.status(second) == "running"
    shop.oj("cancel", second)
    gone(shop, tree)


def test_no_run_folder_is_left_when_the_jobs_have_ended(shop: World) -> None:
    """Nothing is left on the disk either."""
    write(shop, "true")
    shop.run("build")
    runs = shop.state / "runs"
    until(
        lambda: not [path for path in runs.iterdir() if path.is_dir()],
        30,
        "run folders are removed",
    )
