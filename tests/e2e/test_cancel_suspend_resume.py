"""Ending jobs early, stopping them for a while, and going on."""

from __future__ import annotations

import pytest

from tests.support.world import World, ran

SLOW = 'step "work" { run = "touch ${invoke.dir}/up; sleep 300" }\n'


@pytest.fixture
def calm(shop: World) -> World:
    """The user of the file, with none of the files that steps of these tests make."""
    for name in ("up", "go", "tries"):
        (shop.project / name).unlink(missing_ok=True)
    return shop


def running(world: World, *args: str, step: str = "work") -> str:
    """Start the job and wait until that step runs; its id."""
    job_id = world.start("build", *args)
    world.until_running(job_id, step)
    return job_id


# Cancel


def test_a_running_job_is_cancelled(calm: World) -> None:
    """C46."""
    calm.job(SLOW)
    job_id = running(calm)
    assert calm.oj("cancel", job_id).out == f"Cancelled job {job_id}\n"
    job = calm.finish(job_id)
    assert (job["status"], ran(job)) == ("cancelled", ["work cancelled"])


@pytest.mark.parametrize("level", ["job", "step", "both"])
def test_a_cancelled_job_runs_its_clean_up(calm: World, level: str) -> None:
    """A057, A058, C46: that of the step beats that of the job."""
    of_job = 'on_cancel = { step = "of-job" }' if level != "step" else ""
    of_step = 'on_cancel = { step = "of-step" }' if level != "job" else ""
    calm.job(f"""
        {of_job}
        step "work" {{
          run = "sleep 300"
          {of_step}
        }}
        step "of-job"  {{ run = "echo cleaned" }}
        step "of-step" {{ run = "echo cleaned" }}
    """)
    job_id = running(calm)
    calm.oj("cancel", job_id)
    job = calm.finish(job_id)
    used = "of-job" if level == "job" else "of-step"
    assert ran(job) == ["work cancelled", f"{used} completed"]
    assert job["status"] == "cancelled"


def test_cancelling_again_during_the_clean_up_changes_nothing(calm: World) -> None:
    """A060, C46."""
    calm.job("""
        on_cancel = { step = "clean" }
        step "work"  { run = "sleep 300" }
        step "clean" { run = "until [ -e ${invoke.dir}/go ]; do sleep 0.05; done" }
    """)
    job_id = running(calm)
    calm.oj("cancel", job_id)
    calm.until_running(job_id, "clean")
    assert job_id in calm.oj("cancel", job_id).out
    (calm.project / "go").touch()
    job = calm.finish(job_id)
    assert (job["status"], ran(job)) == ("cancelled", ["work cancelled", "clean completed"])


def test_a_clean_up_that_fails_leaves_the_job_cancelled_or_failed_but_ended(calm: World) -> None:
    """Spec 2.6: the clean-up's own failure is an end too."""
    calm.job("""
        on_cancel = { step = "clean" }
        step "work"  { run = "sleep 300" }
        step "clean" { run = "exit 3" }
    """)
    job_id = running(calm)
    calm.oj("cancel", job_id)
    job = calm.finish(job_id)
    assert job["status"] in ("cancelled", "failed")
    assert ran(job) == ["work cancelled", "clean failed"]


def test_cancelling_a_finished_job_is_no_error_and_changes_nothing(calm: World) -> None:
    """A062, C46."""
    calm.job('step "work" { run = "true" }')
    job_id = calm.run("build")["id"]
    for verb in ("cancel", "suspend"):
        assert calm.oj(verb, job_id).out == f"Job {job_id} was already terminal\n"
    assert calm.status(job_id) == "completed"


def test_of_two_jobs_the_known_one_is_cancelled_and_the_other_named(calm: World) -> None:
    """C47."""
    calm.job(SLOW)
    job_id = running(calm)
    refused = calm.oj("job", "cancel", job_id, "nosuch", code=1)
    assert refused.out == f"Cancelled job {job_id}\n"
    assert "Job not found: nosuch" in refused.err
    calm.until_status(job_id, "cancelled")


def test_all_branches_of_a_job_are_ended(calm: World) -> None:
    """A063 for jobs with several active steps."""
    calm.job("""
        step "split" {
          run     = "true"
          on_done = ["left", "right"]
        }
        step "left"  { run = "sleep 300" }
        step "right" { run = "sleep 300" }
    """)
    job_id = running(calm, step="left")
    calm.until_running(job_id, "right")
    calm.oj("cancel", job_id)
    job = calm.finish(job_id)
    assert sorted(ran(job)) == ["left cancelled", "right cancelled", "split completed"]


# Suspend and resume


@pytest.mark.parametrize("verb", [("suspend",), ("job", "suspend")])
def test_a_suspended_job_keeps_its_folder_and_goes_on_with_the_interrupted_step(
    calm: World, verb: tuple[str, ...]
) -> None:
    """C48."""
    calm.job("""
        source = "folder"
        step "first" {
          run     = "echo kept >kept"
          on_done = { step = "work" }
        }
        step "work" { run = "cat kept; until [ -e ${invoke.dir}/go ]; do sleep 0.05; done" }
    """)
    job_id = running(calm)
    assert calm.oj(*verb, job_id).out == f"Suspended job {job_id}\n"
    calm.until_status(job_id, "suspended")
    assert calm.show(job_id)["workspace"]["status"] == "ready"
    assert calm.oj("resume", job_id).out == f"Resumed job {job_id} at work\n"
    (calm.project / "go").touch()
    job = calm.finish(job_id)
    assert job["status"] == "completed"
    assert [line.split()[0] for line in ran(job)] == ["first", "work", "work"]


def test_all_interrupted_branches_go_on(calm: World) -> None:
    """C48 for jobs with several active steps."""
    wait = "until [ -e ${invoke.dir}/go ]; do sleep 0.05; done"
    calm.job(f"""
        step "split" {{
          run     = "true"
          on_done = ["left", "right", "quick"]
        }}
        step "left"  {{ run = "{wait}" }}
        step "right" {{ run = "{wait}" }}
        step "quick" {{ run = "true" }}
        step "join" {{
          after = ["left", "right", "quick"]
          run   = "true"
        }}
    """)
    job_id = running(calm, step="left")
    calm.until_running(job_id, "right")
    calm.until_listed(job_id, "[quick] shell completed")
    calm.oj("suspend", job_id)
    calm.until_status(job_id, "suspended")
    assert sorted(calm.oj("resume", job_id, "-o", "json").json["steps"]) == ["left", "right"]
    (calm.project / "go").touch()
    job = calm.finish(job_id)
    done = [line for line in ran(job) if line.endswith("completed")]
    assert sorted(done) == [
        "join completed",
        "left completed",
        "quick completed",
        "right completed",
        "split completed",
    ]


TRIES = """
    source = "folder"
    step "first" {
      run     = "echo $RANDOM >mark"
      on_done = { step = "work" }
    }
    step "work" {
      run     = "cat mark; test \\"${var.mode}\\" = good"
      on_fail = { step = "repair" }
    }
    step "repair" { run = "true" }
"""


def test_a_failed_job_goes_on_at_the_failed_step_with_a_new_value(calm: World) -> None:
    """A152, C49: not at the clean-up, and the step sees the new value."""
    calm.job(TRIES, args="<mode>")
    job_id = calm.run("build", "bad", code=1)["id"]
    done = calm.oj("resume", job_id, "--var", "mode=good")
    assert done.out == f"Updated vars and resumed job {job_id} at work\n"
    job = calm.finish(job_id)
    assert job["status"] == "completed"
    assert ran(job)[-1] == "work completed"
    assert job["vars"]["var.mode"] == "good"


def test_a_value_may_be_named_with_its_namespace(calm: World) -> None:
    """8.15: normalise keys."""
    calm.job(TRIES, args="<mode>")
    job_id = calm.run("build", "bad", code=1)["id"]
    calm.oj("job", "resume", job_id, "--var", "var.mode=good")
    assert calm.finish(job_id)["status"] == "completed"


def test_a_failed_job_can_go_on_at_any_of_its_steps(calm: World) -> None:
    """8.15: option --step."""
    calm.job(TRIES, args="<mode>")
    job_id = calm.run("build", "bad", code=1)["id"]
    assert "first, work, repair" in calm.oj("resume", job_id, "--step", "nosuch", code=1).err
    calm.oj("resume", job_id, "--step", "first", "--var", "mode=good")
    job = calm.finish(job_id)
    assert job["status"] == "completed"
    assert ran(job)[-2:] == ["first completed", "work completed"]


def test_a_job_that_fails_again_can_be_resumed_again(calm: World) -> None:
    """8.15: visits are counted anew, so the breaker does not strike at resumes."""
    calm.job(TRIES, args="<mode>")
    job_id = calm.run("build", "bad", code=1)["id"]
    for _ in range(7):
        calm.oj("resume", job_id)
        job = calm.finish(job_id)
        assert job["status"] == "failed"
        assert "circuit breaker" not in job["error"]
    calm.oj("resume", job_id, "--var", "mode=good")
    assert calm.finish(job_id)["status"] == "completed"


@pytest.mark.parametrize(("code", "end"), [("0", "completed"), (None, "cancelled")])
def test_a_job_that_is_done_or_cancelled_cannot_be_resumed(
    calm: World, code: str | None, end: str
) -> None:
    """C49, Y3."""
    calm.job('step "work" { run = "sleep ${var.seconds}" }', args="<seconds>")
    if code is not None:
        job_id = calm.run("build", "0")["id"]
    else:
        job_id = running(calm, "300")
        calm.oj("cancel", job_id)
        calm.until_status(job_id, "cancelled")
    refused = calm.oj("resume", job_id, code=1)
    assert end in refused.err
    assert not refused.out
    assert calm.status(job_id) == end


def test_a_running_job_cannot_be_resumed(calm: World) -> None:
    """Y3: no success for rejected work."""
    calm.job(SLOW)
    job_id = running(calm)
    assert "running" in calm.oj("resume", job_id, code=1).err
    calm.oj("cancel", job_id)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--all", "x"), "--all"),
        (("--all", "--var", "a=b"), "--all"),
        ((), "--all"),
        (("nosuch",), "nosuch"),
        (("x", "--var", "novalue"), "KEY=VALUE"),
    ],
)
def test_a_resume_that_makes_no_sense_is_refused(
    calm: World, words: tuple[str, ...], said: str
) -> None:
    """C49."""
    assert said in calm.oj("job", "resume", *words, code=1).err


def test_a_variable_that_the_job_does_not_know_is_refused(calm: World) -> None:
    """D10: a typing error is found, with the nearest name."""
    calm.job(TRIES, args="<mode>")
    job_id = calm.run("build", "bad", code=1)["id"]
    refused = calm.oj("resume", job_id, "--var", "mood=good", code=1)
    assert "mood" in refused.err
    assert "mode" in refused.err
    assert calm.status(job_id) == "failed"


def test_a_message_to_a_shell_step_is_ignored_with_a_warning(calm: World) -> None:
    """Spec 4.1."""
    calm.job(TRIES, args="<mode>")
    job_id = calm.run("build", "bad", code=1)["id"]
    assert "Warning:" in calm.oj("resume", job_id, "-m", "please").err
    calm.finish(job_id)


def test_resume_all_takes_failed_and_suspended_jobs_and_names_those_it_skips(world: World) -> None:
    """8.15, C49."""
    assert world.oj("job", "resume", "--all").out == "No resumable jobs found\n"
    world.job(
        'step "work" { run = "sleep ${var.seconds}; exit ${var.code}" }', args="<seconds> <code>"
    )
    failed = world.run("build", "0", "1", code=1)["id"]
    suspended = running(world, "300", "0")
    world.oj("suspend", suspended)
    world.until_status(suspended, "suspended")
    busy = running(world, "300", "0")
    world.run("build", "0", "0")
    done = world.oj("job", "resume", "--all", "-o", "json").json
    assert set(done["resumed"]) == {failed, suspended}
    assert [job_id for job_id, _ in done["skipped"]] == [busy]
    world.until_running(suspended, "work")
    world.oj("cancel", suspended, busy)
    world.until_status(suspended, "cancelled")
    world.until_status(busy, "cancelled")
