"""What a stop of the daemon says about jobs that have not ended."""

from __future__ import annotations

from tests.support.world import World

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
