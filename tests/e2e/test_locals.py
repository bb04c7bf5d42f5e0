"""Locals that run bash: once, bounded, and gone with their job."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.waiting import until
from tests.support.world import World

HELD = """
    locals = {{ x = "$(echo x >> {folder}/begun; until test -e {folder}/go; do sleep 0.05; done; echo done)" }}
    step "s" {{ run = "echo 'it says ${{local.x}}'" }}
"""


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_local_that_is_being_evaluated_goes_on_without_the_daemon(
    world: World, tmp_path: Path, how: str
) -> None:
    world.job(HELD.format(folder=tmp_path))
    job = world.start("build")
    world.until_file(tmp_path / "begun")
    if how == "killed":
        world.kill_daemon()
    else:
        world.oj("daemon", "stop")
    world.oj("daemon", "start")
    (tmp_path / "go").touch()
    assert world.finish(job)["status"] == "completed"
    assert "it says done" in world.log(job)
    assert (tmp_path / "begun").read_text() == "x\n", "it ran once"
    assert not list((world.state / "runs").glob("job-*"))


@pytest.mark.parametrize("word", ["cancel", "suspend"])
def test_a_job_that_ends_takes_the_evaluation_of_its_locals_with_it(
    world: World, tmp_path: Path, word: str
) -> None:
    world.job(HELD.format(folder=tmp_path))
    job = world.start("build")
    world.until_file(tmp_path / "begun")
    world.oj(word, job)
    until(lambda: not world.survivors(), 8, "the evaluation has ended")
    until(lambda: not list((world.state / "runs").glob("job-*")), 8, "its folder is gone")
    if word == "suspend":
        (tmp_path / "go").touch()
        world.oj("resume", job)
        assert world.finish(job)["status"] == "completed"


def test_a_local_that_never_stops_writing_fails_the_job(world: World) -> None:
    world.job("""
        locals = { x = "$(head -c 3000000 /dev/zero | tr '\\\\0' x)" }
        step "s" { run = "true" }
    """)
    ended = world.run("build", code=1)
    assert "larger than" in str(ended["error"])
    assert len(str(ended["error"])) < 500
