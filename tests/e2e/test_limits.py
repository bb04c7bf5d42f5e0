"""What the daemon does where the machine allows little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.waiting import until
from tests.support.world import World

FILES = 80
"""Open files that the daemon may have."""
JOBS = 90


def start_with(world: World, limits: str) -> None:
    subprocess.run(
        ["bash", "-c", f"{limits} && exec {sys.executable} -m oj_cli daemon start"],
        cwd=world.project,
        env=world.environ,
        check=True,
        capture_output=True,
    )


def test_more_running_steps_than_open_files_are_no_trouble(world: World, tmp_path: Path) -> None:
    world.job(f'step "s" {{ run = "until test -e {tmp_path}/go; do sleep 0.5; done" }}')
    start_with(world, f"ulimit -n {FILES}")
    pid = world.daemon_pid
    world.start_many("build", JOBS)

    def count(status: str) -> int:
        return int(
            world.oj("job", "list", "--status", status, "--no-limit", "-o", "json").out.count(
                '"id"'
            )
        )

    until(lambda: count("running") == JOBS, 60, "all run", pause=0.3)
    (tmp_path / "go").touch()
    until(lambda: count("completed") == JOBS, 60, "all are done", pause=0.3)
    assert world.daemon_pid == pid, "one daemon lived through all of it"


def test_a_step_may_open_as_many_files_as_where_the_daemon_was_started(world: World) -> None:
    world.job('step "s" { run = "ulimit -Sn; ulimit -Hn" }')
    start_with(world, "ulimit -Sn 200 && ulimit -Hn 400")
    job = world.run("build")
    log = world.log(job["id"])
    assert "[s] 200\n" in log
    assert "[s] 400\n" in log
    limits = Path(f"/proc/{world.daemon_pid}/limits").read_text()
    assert [line.split()[3] for line in limits.splitlines() if "open files" in line] == ["400"]
