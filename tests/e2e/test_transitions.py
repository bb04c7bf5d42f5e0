"""Where a job goes after a step: on_done, on_fail, fan-out, fan-in, and the breaker that ends circles."""

from __future__ import annotations

from tests.support.world import World, ran


def test_a_failing_step_goes_to_its_on_fail_step_and_the_job_still_fails(shop: World) -> None:
    """A046."""
    shop.job("""
        step "work" {
          run     = "exit 3"
          on_fail = { step = "repair" }
        }
        step "repair" { run = "echo repaired" }
    """)
    job = shop.run("build", code=1)
    assert ran(job) == ["work failed", "repair completed"]
    assert job["status"] == "failed"
    assert "'work' failed: shell exit code: 3" in job["error"]


def test_the_job_has_an_on_fail_step_for_all_its_steps(shop: World) -> None:
    """A047."""
    shop.job("""
        on_fail = { step = "repair" }
        step "one" {
          run     = "true"
          on_done = { step = "two" }
        }
        step "two"    { run = "exit 3" }
        step "repair" { run = "true" }
    """)
    assert ran(shop.run("build", code=1)) == ["one completed", "two failed", "repair completed"]


def test_the_on_fail_of_the_step_beats_that_of_the_job(shop: World) -> None:
    """A048."""
    shop.job("""
        on_fail = { step = "of-job" }
        step "work" {
          run     = "exit 3"
          on_fail = { step = "of-step" }
        }
        step "of-step" { run = "true" }
        step "of-job"  { run = "true" }
    """)
    assert ran(shop.run("build", code=1)) == ["work failed", "of-step completed"]


def test_a_repair_that_fails_itself_ends_the_job(shop: World) -> None:
    """A049."""
    shop.job("""
        on_fail = { step = "repair" }
        step "work"   { run = "exit 3" }
        step "repair" { run = "exit 4" }
    """)
    job = shop.run("build", code=1)
    assert ran(job) == ["work failed", "repair failed"]


def test_two_steps_that_fail_into_each_other_are_stopped_by_the_breaker(shop: World) -> None:
    """A050."""
    shop.job("""
        step "ping" {
          run     = "exit 1"
          on_fail = { step = "pong" }
        }
        step "pong" {
          run     = "exit 1"
          on_fail = { step = "ping" }
        }
    """)
    job = shop.run("build", code=1)
    assert "circuit breaker" in job["error"]
    assert "5" in job["error"]
    assert len(job["steps"]) <= 12
    assert "circuit breaker" in shop.oj("job", "show", job["id"]).out


REPAIR = """
    step "init" {
      run     = "test -e ${invoke.dir}/healed && test ! -e ${invoke.dir}/stale"
      on_done = { step = "work" }
      on_fail = { step = "reinit" }
    }
    step "reinit" {
      run     = "REINIT"
      on_done = { step = "init" }
    }
    step "work" { run = "true" }
"""


def test_a_job_that_was_repaired_goes_on_and_is_completed(shop: World) -> None:
    """A051, A052: the repair also clears what an earlier run left."""
    (shop.project / "stale").touch()
    shop.job(REPAIR.replace("REINIT", "rm -f ${invoke.dir}/stale; touch ${invoke.dir}/healed"))
    job = shop.run("build")
    assert ran(job) == ["init failed", "reinit completed", "init completed", "work completed"]
    assert job["error"] == ""


def test_a_repair_that_never_heals_is_stopped_by_the_breaker(shop: World) -> None:
    """A053."""
    (shop.project / "healed").unlink(missing_ok=True)
    shop.job(REPAIR.replace("REINIT", "true"))
    job = shop.run("build", code=1)
    assert "circuit breaker" in job["error"]
    assert "work completed" not in ran(job)


def test_the_on_done_step_of_the_job_runs_after_success_only(shop: World) -> None:
    """8.35: a clean-up after a failure is not taken for success."""
    steps = """
        on_done = { step = "party" }
        on_fail = { step = "repair" }
        step "work"   { run = "exit CODE" }
        step "repair" { run = "true" }
        step "party"  { run = "true" }
    """
    shop.job(steps.replace("CODE", "0"))
    assert ran(shop.run("build")) == ["work completed", "party completed"]
    shop.job(steps.replace("CODE", "3"))
    job = shop.run("build", code=1)
    assert ran(job) == ["work failed", "repair completed"]
    assert job["status"] == "failed"


def test_a_step_without_on_done_ends_the_job_though_others_are_listed_below(shop: World) -> None:
    """Spec 1.5: there is no implicit next step."""
    shop.job("""
        step "one" { run = "true" }
        step "two" {
          run     = "true"
          on_done = { step = "two" }
        }
    """)
    job = shop.run("build")
    assert ran(job) == ["one completed"]


FAN = """
    step "split" {
      run     = "true"
      on_done = ["left", "right"]
    }
    step "left"  { run = "LEFT" }
    step "right" { run = "RIGHT" }
    step "join" {
      after = ["left", "right"]
      run   = "echo joined"
    }
"""
MEET = "touch ${invoke.dir}/ME; until [ -e ${invoke.dir}/OTHER ]; do sleep 0.05; done"


def test_branches_run_side_by_side_and_meet_again(shop: World) -> None:
    """Issue 2.3: fan-out and fan-in; each branch ends only once the other has begun."""
    left = MEET.replace("ME", "l").replace("OTHER", "r")
    right = MEET.replace("ME", "r").replace("OTHER", "l")
    shop.job(FAN.replace("LEFT", left).replace("RIGHT", right))
    job = shop.run("build")
    assert sorted(ran(job)[1:3]) == ["left completed", "right completed"]
    assert ran(job)[3] == "join completed"


def test_a_failing_branch_ends_the_other_and_then_repairs(shop: World) -> None:
    """Issue 2.3: a failing branch cancels its siblings and follows on_fail."""
    fail = "until [ -e ${invoke.dir}/up ]; do sleep 0.05; done; exit 3"
    slow = "touch ${invoke.dir}/up; sleep 300"
    steps = FAN.replace("LEFT", fail).replace("RIGHT", slow)
    shop.job(f'on_fail = {{ step = "repair" }}\n{steps}\nstep "repair" {{ run = "true" }}')
    job = shop.run("build", code=1)
    assert sorted(ran(job)) == [
        "left failed",
        "repair completed",
        "right cancelled",
        "split completed",
    ]
    assert ran(job)[-1] == "repair completed"
    assert "'left'" in job["error"]


def test_the_graph_of_a_job_is_shown_with_what_is_to_come(shop: World) -> None:
    """The user can see where a job with branches stands."""
    slow = "sleep 300"
    shop.job(FAN.replace("LEFT", slow).replace("RIGHT", slow))
    job_id = shop.start("build")
    shop.until_running(job_id, "left")
    shop.until_running(job_id, "right")
    shown = shop.oj("job", "show", job_id).out
    assert "then left, right" in shown
    assert "after left, right" in shown
    row = next(line for line in shop.oj("job", "list").out.splitlines() if job_id[4:12] in line)
    assert "left,right" in row
    shop.oj("cancel", job_id)
    shop.until_status(job_id, "cancelled")
