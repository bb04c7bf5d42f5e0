"""What a stop of the daemon says about jobs that have not ended."""

from __future__ import annotations

import signal
import subprocess

from tests.support.waiting import until
from tests.support.world import World, ran

SLOW = 'step "s" { run = "sleep 300" }'


def test_a_stop_says_that_steps_go_on_and_so_does_the_status_meanwhile(world: World) -> None:
    world.job(SLOW)
    job = world.start("build")
    world.until_running(job, "s")
    said = "Steps of 1 job go on without the daemon; oj daemon start takes them up again\n"
    stopped = world.oj("daemon", "stop")
    assert (stopped.out, stopped.err) == ("Daemon stopped\n", said)
    assert world.oj("status").out == f"oj daemon: not running\n{said}"
    assert world.oj("status", "-o", "json").json == {"status": "not_running"}
    world.oj("daemon", "start")
    assert world.status(job) == "running"


def test_a_stop_with_kill_says_what_became_of_jobs_and_so_do_they(world: World) -> None:
    world.job(f"""
        {SLOW}
        on_fail = {{ step = "mend" }}
        step "mend" {{ run = "sleep 300" }}
    """)
    job = world.start("build")
    world.until_running(job, "s")
    stopped = world.oj("daemon", "stop", "--kill")
    assert stopped.err == "1 job was active; what ran was ended: oj job list --status suspended\n"
    assert world.oj("status").out == "oj daemon: not running\n"
    world.oj("daemon", "start")
    shown = world.show(job)
    assert shown["status"] == "suspended"
    assert shown["error"] == "suspended because the daemon was stopped with --kill"


def test_a_stop_with_kill_also_ends_a_step_that_is_only_about_to_start(world: World) -> None:
    world.job("""
        step "s" {
          run     = "trap '' TERM; touch ${invoke.dir}/up; sleep 300"
          timeout = "100ms"
          on_fail = { step = "mend" }
        }
        step "mend" { run = "sleep 300" }
    """)
    job = world.start("build")
    world.until_listed(job, "timeout reached")
    world.oj("daemon", "stop", "--kill")
    assert world.survivors() == []
    world.oj("daemon", "start")
    assert world.status(job) == "suspended"


TWO = """
    step "a" {
      run     = "echo up > ${invoke.dir}/up; until [ -e ${invoke.dir}/go ]; do sleep 0.05; done; echo a >> ${invoke.dir}/ran"
      on_done = { step = "b" }
    }
    step "b" { run = "echo b >> ${invoke.dir}/ran" }
"""


def begin(world: World, **environ: str) -> tuple[str, subprocess.Popen[str]]:
    """A job in its first step, and the daemon that runs it in the foreground."""
    world.job(TWO)
    daemon = world.spawn("daemon", environ=environ)
    until((world.state / "daemon.sock").exists, 60, "the daemon listens")
    job = world.start("build")
    world.until_file(world.project / "up")
    return job, daemon


def test_where_steps_end_with_the_daemon_it_waits_for_them_and_begins_no_other(
    world: World,
) -> None:
    """Roadmap 17, in a container: what is in flight is finished, what comes next is the next daemon's."""
    job, daemon = begin(world, OJ_DRAIN_STEPS="1", OJ_DRAIN_TIMEOUT_MS="60000")
    daemon.send_signal(signal.SIGTERM)
    until(
        lambda: world.oj("daemon", "status", "-o", "json").json["status"] == "draining",
        60,
        "it drains",
    )
    refused = world.oj("run", "build", code=1)
    assert "daemon is draining" in refused.err
    (world.project / "go").touch()
    assert daemon.wait(60) == 0
    assert (world.project / "ran").read_text() == "a\n"
    world.oj("daemon", "start")
    assert ran(world.finish(job)) == ["a completed", "b completed"]
    assert (world.project / "ran").read_text() == "a\nb\n"


def test_a_drain_that_takes_too_long_leaves_the_step_to_the_next_daemon(world: World) -> None:
    job, daemon = begin(world, OJ_DRAIN_STEPS="1", OJ_DRAIN_TIMEOUT_MS="100")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 0
    (world.project / "go").touch()
    world.oj("daemon", "start")
    assert ran(world.finish(job)) == ["a completed", "b completed"]


def test_a_second_signal_ends_such_a_wait_at_once(world: World) -> None:
    job, daemon = begin(world, OJ_DRAIN_STEPS="1", OJ_DRAIN_TIMEOUT_MS="600000")
    daemon.send_signal(signal.SIGTERM)
    until(
        lambda: world.oj("daemon", "status", "-o", "json").json["status"] == "draining",
        60,
        "it drains",
    )
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 128 + signal.SIGTERM
    (world.project / "go").touch()
    world.oj("daemon", "start")
    assert ran(world.finish(job)) == ["a completed", "b completed"]
