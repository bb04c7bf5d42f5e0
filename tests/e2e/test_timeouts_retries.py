"""What a step may say about itself: timeout, retry, env, cwd; and what the world of a step is like."""

from __future__ import annotations

import re

from tests.support.waiting import until
from tests.support.world import World, ran


def printed(world: World, job_id: str, step: str) -> list[str]:
    """What the step wrote, line by line."""
    mark = f"[{step}] "
    return [line.partition(mark)[2] for line in world.log(job_id).splitlines() if mark in line]


def test_a_step_that_takes_too_long_fails_and_nothing_of_it_is_left(shop: World) -> None:
    """Issue 2.3: timeout; it follows on_fail."""
    shop.job("""
        step "slow" {
          run     = "echo begun; sleep 300"
          timeout = "300ms"
          on_fail = { step = "repair" }
        }
        step "repair" { run = "true" }
    """)
    job = shop.run("build", code=1)
    assert ran(job) == ["slow failed", "repair completed"]
    assert re.search("timed out|timeout", job["error"])
    assert "begun" in printed(shop, job["id"], "slow")
    until(lambda: not shop.survivors(), 30, "the step is gone")


def test_a_step_that_fails_is_tried_again_as_often_as_it_says(shop: World) -> None:
    """Issue 2.3: retry."""
    shop.job("""
        step "flaky" {
          run   = "echo try >>${invoke.dir}/tries; exit 3"
          retry = { attempts = 2, backoff = "10ms" }
        }
    """)
    job = shop.run("build", code=1)
    assert ran(job) == ["flaky failed"] * 3
    assert [run["attempt"] for run in job["steps"]] == [1, 2, 3]
    assert (shop.project / "tries").read_text() == "try\n" * 3
    (shop.project / "tries").unlink()


def test_a_try_that_works_ends_the_trying(shop: World) -> None:
    """Issue 2.3: retry."""
    shop.job("""
        step "flaky" {
          run     = "echo try >>${invoke.dir}/tries; test $(wc -l <${invoke.dir}/tries) -ge 2"
          retry   = { attempts = 5, backoff = "10ms" }
          on_done = { step = "next" }
        }
        step "next" { run = "true" }
    """)
    job = shop.run("build")
    assert ran(job) == ["flaky failed", "flaky completed", "next completed"]
    assert job["retries"] == 1
    (shop.project / "tries").unlink()


def test_a_timeout_counts_as_a_failure_that_can_be_tried_again(shop: World) -> None:
    """Issue 2.3: timeout and retry together."""
    shop.job("""
        step "flaky" {
          run     = "test -e ${invoke.dir}/second || { touch ${invoke.dir}/second; sleep 300; }"
          timeout = "2s"
          retry   = { attempts = 1, backoff = "1ms" }
        }
    """)
    assert ran(shop.run("build")) == ["flaky failed", "flaky completed"]
    (shop.project / "second").unlink()


def test_a_job_that_waits_for_its_next_try_can_be_cancelled_and_says_what_it_waits_for(
    shop: World,
) -> None:
    """Issue 2.3: cancel while a retry is pending."""
    shop.job("""
        step "flaky" {
          run   = "exit 3"
          retry = { attempts = 5, backoff = "1h" }
        }
    """)
    job_id = shop.start("build")
    until(lambda: len(shop.show(job_id)["steps"]) == 2, 60, "the next try is planned")
    assert "next try in" in shop.oj("job", "show", job_id).out
    shop.oj("cancel", job_id)
    assert shop.finish(job_id)["status"] == "cancelled"


def test_the_environment_of_a_step_is_its_own_and_may_hold_values(shop: World) -> None:
    """Issue 2.3: env."""
    shop.job(
        """
        step "one" {
          run     = "echo \\"$GREETING|$PLAIN\\""
          env     = { GREETING = "hello ${var.name}", PLAIN = "a b" }
          on_done = { step = "two" }
        }
        step "two" { run = "echo \\"${GREETING:-none}\\"" }
        """,
        args="<name>",
    )
    job_id = shop.run("build", 'it\'s "$(x)"')["id"]
    assert 'hello it\'s "$(x)"|a b' in printed(shop, job_id, "one")
    assert "none" in printed(shop, job_id, "two")


def test_a_value_of_the_callers_environment_is_taken_at_submit(shop: World) -> None:
    """D2, 8.10."""
    shop.job("""
        locals = { place = "${SOME_PLACE:-nowhere}" }
        step "one" { run = "echo \\"at ${local.place}\\"" }
    """)
    assert "at nowhere" in printed(shop, shop.run("build")["id"], "one")
    job = shop.run("build", environ={"SOME_PLACE": "the shore"})
    assert "at the shore" in printed(shop, job["id"], "one")


def test_a_step_can_work_in_a_folder_below_that_of_its_job(shop: World) -> None:
    """Issue 2.3: cwd."""
    shop.job("""
        source = "folder"
        step "make" {
          run     = "mkdir sub; pwd"
          on_done = { step = "inside" }
        }
        step "inside" {
          run     = "pwd"
          cwd     = "sub"
          on_done = { step = "root" }
        }
        step "root" {
          run = "pwd"
          cwd = "/"
        }
    """)
    job = shop.run("build")
    root = job["vars"]["source.root"]
    assert root in printed(shop, job["id"], "make")
    assert f"{root}/sub" in printed(shop, job["id"], "inside")
    assert "/" in printed(shop, job["id"], "root")


def test_a_folder_that_is_not_there_fails_the_step_with_its_name(shop: World) -> None:
    """Issue 2.3: cwd."""
    shop.job("""
        step "lost" {
          run = "true"
          cwd = "/nonexistent/place"
        }
    """)
    assert "/nonexistent/place" in shop.run("build", code=1)["error"]


def test_a_step_has_no_input_and_strict_bash(shop: World) -> None:
    """Spec 2.8."""
    shop.job("""
        step "read" {
          run     = "cat; echo done"
          on_done = { step = "strict" }
        }
        step "strict" { run = "false | true; echo survived" }
    """)
    job = shop.run("build", code=1)
    assert ran(job) == ["read completed", "strict failed"]
    assert "survived" not in shop.log(job["id"])


def test_without_source_and_cwd_a_step_works_where_the_caller_stood(shop: World) -> None:
    """Spec 2.4."""
    below = shop.project / "below"
    below.mkdir(exist_ok=True)
    shop.job('step "one" { run = "pwd" }')
    job = shop.run("build", cwd=below)
    assert str(below) in printed(shop, job["id"], "one")


def test_a_local_that_cannot_be_evaluated_fails_the_job_with_its_name_and_words(
    shop: World,
) -> None:
    """Spec 1.14, 8.23."""
    shop.job("""
        locals = { broken = "$(echo no such luck >&2; exit 3)" }
        step "one" { run = "echo ${local.broken}" }
    """)
    job = shop.run("build", code=1)
    assert "broken" in job["error"]
    assert "no such luck" in job["error"]
    assert ran(job) == []
