"""Jobs as scenarios: what is asked, what is ordered, what happens in the world."""

from __future__ import annotations

import pytest

from oj_daemon.core import effects, events
from oj_daemon.errors import Rejected
from oj_daemon.runbook.model import (
    ArgSpec,
    Binding,
    Notify,
    Positional,
    RunShell,
    Shell,
    Source,
    SourceKind,
    StepDef,
    Text,
)
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import JobStatus, StepStatus, WorkspaceStatus
from tests.support.scenario import Scenario, job, runbook, step

DONE, FAILED, CANCELLED, SUSPENDED = (
    JobStatus.DONE,
    JobStatus.FAILED,
    JobStatus.CANCELLED,
    JobStatus.SUSPENDED,
)


def statuses(world: Scenario) -> list[tuple[str, StepStatus]]:
    return [(run.step, run.status) for run in world.job.runs]


def test_steps_run_in_the_order_of_their_transitions_and_the_first_listed_one_starts() -> None:
    world = Scenario(job(step("a", on_done=["b"]), step("b", on_done=["c"]), step("c")))
    world.run()
    assert world.started() == ["a"]
    world.exits("a")
    assert world.started() == ["b"]
    world.exits("b")
    world.exits("c")
    assert world.status is DONE
    assert world.job.error == ""


def test_without_a_transition_the_job_is_done_and_no_listed_step_follows_by_itself() -> None:
    world = Scenario(job(step("a"), step("b")))
    world.run()
    world.exits("a")
    assert world.status is DONE
    assert [run.step for run in world.job.runs] == ["a"]


def test_a_job_is_one_record_to_start_and_one_to_end() -> None:
    world = Scenario(job(step("a")))
    world.run()
    world.exits("a")
    assert len(world.log) == 2


def test_fan_out_starts_all_and_fan_in_waits_for_the_last() -> None:
    world = Scenario(
        job(
            step("init", on_done=["a", "b", "c"]),
            step("a"),
            step("b"),
            step("c"),
            step("end", after=["a", "b", "c"]),
        )
    )
    world.run()
    world.started()
    world.exits("init")
    assert world.started() == ["a", "b", "c"]
    world.exits("b")
    world.exits("a")
    assert world.started() == []
    world.exits("c")
    assert world.started() == ["end"]
    world.exits("end")
    assert world.status is DONE


def test_a_failing_branch_ends_its_siblings_and_only_then_follows_on_fail() -> None:
    world = Scenario(
        job(
            step("init", on_done=["a", "b"]),
            step("a", on_fail="fix"),
            step("b"),
            step("fix"),
            step("end", after=["a", "b"]),
        )
    )
    world.run()
    world.exits("init")
    world.started()
    world.exits("a", 1)
    assert world.status is JobStatus.ENDING
    assert world.ended() == ["b"]
    assert world.started() == []
    world.exits("b", 143, ended=True)
    assert world.started() == ["fix"]
    assert ("b", StepStatus.CANCELLED) in statuses(world)
    world.exits("fix")
    assert world.status is FAILED
    assert world.job.error == "step 'a' failed: shell exit code: 1"


def test_a_sibling_that_ends_by_itself_while_the_others_are_ended_counts_as_done() -> None:
    world = Scenario(
        job(step("init", on_done=["a", "b"]), step("a"), step("b"), step("end", after=["a", "b"]))
    )
    world.run()
    world.exits("init")
    world.exits("a", 1)
    world.exits("b", 0)
    assert world.status is FAILED
    assert ("b", StepStatus.DONE) in statuses(world)
    world.started()
    world.ask(requests.JobResume(id=world.job.id))
    assert world.started() == ["a#2"]
    world.exits("a")
    assert world.started() == ["end"]


def test_a_step_level_on_fail_beats_the_job_level_one() -> None:
    world = Scenario(job(step("a", on_fail="own"), step("own"), step("general"), on_fail="general"))
    world.run()
    world.exits("a", 1)
    assert world.started() == ["a", "own"]
    world.exits("own")
    assert world.status is FAILED


def test_a_failing_clean_up_step_of_the_job_ends_it_and_keeps_both_errors() -> None:
    world = Scenario(job(step("a"), step("clean"), on_fail="clean"))
    world.run()
    world.exits("a", 1)
    world.exits("clean", 2)
    assert world.status is FAILED
    assert (
        world.job.error
        == "step 'a' failed: shell exit code: 1; then step 'clean' failed: shell exit code: 2"
    )


def test_a_clean_up_step_that_moves_on_recovers_the_job() -> None:
    world = Scenario(
        job(
            step("init", on_fail="reinit", on_done=["work"]),
            step("reinit", on_done=["init"]),
            step("work"),
        )
    )
    world.run()
    world.exits("init", 1)
    world.exits("reinit")
    world.exits("init")
    assert world.started() == ["init", "reinit", "init#2", "work"]
    world.exits("work")
    assert world.status is DONE
    assert world.job.error == ""


def test_two_steps_that_fail_into_each_other_meet_the_circuit_breaker() -> None:
    world = Scenario(job(step("a", on_fail="b"), step("b", on_fail="a")))
    world.run()
    for _ in range(40):
        if world.status is FAILED:
            break
        world.exits(world.job.active[0].step, 1)
    assert world.status is FAILED
    assert "circuit breaker" in world.job.error
    assert "limit 5" in world.job.error
    assert sum(1 for run in world.job.runs if run.step == "b") == 5


def test_a_cycle_that_heals_never_meets_the_circuit_breaker_for_its_entry() -> None:
    world = Scenario(job(step("a", on_done=["b"]), step("b", on_done=["a"])))
    world.run()
    while world.status is JobStatus.RUNNING:
        world.exits(world.job.active[0].step)
    assert world.status is FAILED
    assert "circuit breaker" in world.job.error


def test_job_level_on_done_runs_once_at_the_end() -> None:
    world = Scenario(job(step("a"), step("tidy"), on_done=("tidy",)))
    world.run()
    world.exits("a")
    world.exits("tidy")
    assert world.status is DONE
    assert [run.step for run in world.job.runs] == ["a", "tidy"]


def test_job_level_on_done_is_not_for_clean_up_after_a_failure() -> None:
    world = Scenario(
        job(step("a"), step("clean"), step("tidy"), on_fail="clean", on_done=("tidy",))
    )
    world.run()
    world.exits("a", 1)
    world.exits("clean")
    assert world.status is FAILED


def test_cancel_ends_every_active_step_and_then_the_job() -> None:
    world = Scenario(job(step("init", on_done=["a", "b"]), step("a"), step("b")))
    world.run()
    world.exits("init")
    reply = world.ask(requests.JobCancel(ids=(world.job.id, world.job.id[4:12], "nosuch")))
    assert reply == replies.JobsCancelled(
        cancelled=(world.job.id,), already_terminal=(), not_found=("nosuch",)
    )
    assert world.ended() == ["a", "b"]
    world.exits("a", 143, ended=True)
    assert world.status is JobStatus.ENDING
    world.exits("b", 137, ended=True)
    assert world.status is CANCELLED


def test_a_cancelled_job_runs_the_on_cancel_step_of_the_step_it_was_in() -> None:
    world = Scenario(
        job(step("a", on_cancel="undo"), step("undo"), step("other"), on_cancel="other")
    )
    world.run()
    world.started()
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    world.exits("a", 143, ended=True)
    assert world.started() == ["undo"]
    log = len(world.log)
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    assert len(world.log) == log, "a cancel during clean-up changes nothing"
    world.exits("undo")
    assert world.status is CANCELLED


def test_a_failing_clean_up_after_cancel_still_ends_cancelled_and_says_why() -> None:
    world = Scenario(job(step("a"), step("undo"), on_cancel="undo", on_fail="a"))
    world.run()
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    world.exits("a", 143, ended=True)
    world.exits("undo", 3)
    assert world.status is CANCELLED
    assert world.job.error == "clean-up: step 'undo' failed: shell exit code: 3"


def test_cancel_of_a_finished_job_says_so_and_changes_nothing() -> None:
    world = Scenario(job(step("a")))
    world.run()
    world.exits("a")
    log = len(world.log)
    reply = world.ask(requests.JobCancel(ids=(world.job.id,)))
    assert reply == replies.JobsCancelled(
        cancelled=(), already_terminal=(world.job.id,), not_found=()
    )
    assert (world.status, len(world.log)) == (DONE, log)


def test_a_cancel_overtakes_a_failure_whose_siblings_are_still_ending() -> None:
    world = Scenario(
        job(step("init", on_done=["a", "b"]), step("a", on_fail="fix"), step("b"), step("fix"))
    )
    world.run()
    world.exits("init")
    world.exits("a", 1)
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    world.exits("b", 143, ended=True)
    assert world.status is CANCELLED


def test_suspend_keeps_the_interrupted_steps_for_resume() -> None:
    world = Scenario(
        job(step("init", on_done=["a", "b"]), step("a"), step("b"), step("end", after=["a", "b"]))
    )
    world.run()
    world.exits("init")
    world.exits("a")
    world.ask(requests.JobSuspend(ids=(world.job.id,)))
    world.exits("b", 143, ended=True)
    assert world.status is SUSPENDED
    assert world.job.error == "suspended by request"
    world.started()
    assert world.ask(requests.JobResume(id=world.job.id)) == replies.JobResumed(
        id=world.job.id, steps=("b",)
    )
    assert world.started() == ["b#2"]
    assert world.job.error == ""
    world.exits("b")
    assert world.started() == ["end"]
    world.exits("end")
    assert world.status is DONE


def test_a_step_that_was_done_before_it_could_be_suspended_does_not_run_again() -> None:
    world = Scenario(job(step("a", on_done=["b"]), step("b")))
    world.run()
    world.ask(requests.JobSuspend(ids=(world.job.id,)))
    world.exits("a", 0)
    assert world.status is SUSPENDED
    world.started()
    world.ask(requests.JobResume(id=world.job.id))
    assert world.started() == ["b"]


def test_a_last_step_that_was_done_before_it_could_be_suspended_completes_the_job() -> None:
    world = Scenario(job(step("a")))
    world.run()
    world.ask(requests.JobSuspend(ids=(world.job.id,)))
    world.exits("a", 0)
    assert world.status is DONE


def test_a_suspended_job_can_be_cancelled_with_its_clean_up() -> None:
    world = Scenario(job(step("a", on_cancel="undo"), step("undo")))
    world.run()
    world.ask(requests.JobSuspend(ids=(world.job.id,)))
    world.exits("a", 143, ended=True)
    world.started()
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    assert world.started() == ["undo"]
    world.exits("undo")
    assert world.status is CANCELLED


def test_resume_of_a_failed_job_goes_back_to_the_first_failed_step_that_is_no_clean_up() -> None:
    steps = (step("a", on_done=["b"]), step("b", on_fail="clean"), step("clean"))
    world = Scenario(job(*steps, defaults={"x": "", "y": ""}))
    world.run()
    world.exits("a")
    world.exits("b", 1)
    world.exits("clean", 1)
    assert world.status is FAILED
    world.started()
    with pytest.raises(Rejected, match=r"has no variable 'var\.z'"):
        world.ask(requests.JobResume(id=world.job.id, vars={"z": "1"}))
    world.ask(requests.JobResume(id=world.job.id, vars={"x": "1", "var.y": "2"}))
    assert world.started() == ["b#2"]
    assert (world.job.vars["var.x"], world.job.vars["var.y"]) == ("1", "2")
    assert world.job.error == ""
    world.exits("b")
    assert world.status is DONE


def test_resume_at_a_named_step_and_only_of_jobs_that_can_go_on() -> None:
    world = Scenario(job(step("a", on_done=["b"]), step("b")))
    world.run()
    with pytest.raises(Rejected, match="it is running"):
        world.ask(requests.JobResume(id=world.job.id))
    world.exits("a")
    world.exits("b", 1)
    with pytest.raises(Rejected, match="has no step 'c'; its steps are a, b"):
        world.ask(requests.JobResume(id=world.job.id, step="c"))
    world.started()
    world.ask(requests.JobResume(id=world.job.id, step="a"))
    assert world.started() == ["a#2"]
    world.exits("a")
    world.exits("b")
    with pytest.raises(Rejected, match="it is completed"):
        world.ask(requests.JobResume(id=world.job.id))


def test_resume_resets_the_circuit_breaker() -> None:
    world = Scenario(job(step("a", on_fail="b"), step("b", on_fail="a")))
    world.run()
    while world.status is not FAILED:
        world.exits(world.job.active[0].step, 1)
    world.ask(requests.JobResume(id=world.job.id))
    world.exits(world.job.active[0].step, 1)
    assert world.status is JobStatus.RUNNING


def test_resume_all_takes_failed_and_suspended_jobs_and_says_why_not_the_others() -> None:
    world = Scenario(job(step("a")))
    first, second = world.run(), world.run()
    world.exits("a", 1)
    reply = world.ask(requests.JobResumeAll())
    assert isinstance(reply, replies.JobsResumed)
    assert reply.resumed == (first.id,)
    assert reply.skipped == ((second.id, f"cannot resume job {second.id[4:12]}: it is running"),)


def test_a_failed_step_is_tried_again_with_doubling_pauses_and_then_fails_the_job() -> None:
    world = Scenario(job(step("a", retry={"attempts": 2, "backoff_ms": 1000})))
    world.run()
    assert world.started() == ["a"]
    world.exits("a", 1)
    assert world.started() == []
    world.passes(999)
    assert world.started() == []
    world.passes(1)
    assert world.started() == ["a#2"]
    world.exits("a", 1)
    world.passes(1999)
    assert world.started() == []
    world.passes(1)
    assert world.started() == ["a#3"]
    world.exits("a", 1)
    assert world.status is FAILED
    assert world.job.error == "step 'a' failed: shell exit code: 1 (try 3 of 3)"


def test_cancel_while_a_retry_is_awaited_forgets_the_retry() -> None:
    world = Scenario(job(step("a", retry={"attempts": 2, "backoff_ms": 1000})))
    world.run()
    world.exits("a", 1)
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    assert world.status is CANCELLED
    assert not world.timers
    world.passes(10_000)
    assert world.started() == ["a"]


def test_a_timeout_ends_the_step_and_counts_as_its_failure() -> None:
    world = Scenario(job(step("a", timeout_ms=5000, on_fail="b"), step("b")))
    world.run()
    world.started()
    world.passes(5000)
    assert world.ended() == ["a"]
    assert world.status is JobStatus.RUNNING
    world.exits("a", 143, ended=True)
    assert world.started() == ["b"]
    world.exits("b")
    assert world.job.error == "step 'a' failed: timed out after 5 s"


def test_a_step_that_ends_in_time_takes_its_timeout_with_it() -> None:
    world = Scenario(job(step("a", timeout_ms=5000, on_done=["b"]), step("b")))
    world.run()
    world.exits("a")
    assert not world.timers


def test_reports_about_runs_that_are_over_are_dropped() -> None:
    world = Scenario(job(step("a")))
    world.run()
    world.exits("a")
    log = len(world.log)
    world.tell(events.StepExited(job_id=world.job.id, run=1, exit_code=1))
    world.tell(events.StepTimedOut(job_id=world.job.id, run=1))
    world.tell(events.StepExited(job_id=world.job.id, run=7, exit_code=1))
    assert (world.status, len(world.log)) == (DONE, log)


def test_after_a_restart_running_steps_are_picked_up_and_timers_set_again() -> None:
    world = Scenario(
        job(
            step("init", on_done=["a", "b"]),
            step("a", timeout_ms=5000),
            step("b", retry={"attempts": 1, "backoff_ms": 9}),
        )
    )
    world.run()
    world.exits("init")
    world.exits("b", 1)
    world.restart()
    assert world.started() == ["a"]
    assert sorted(world.timers) == [f"retry:{world.job.id}/4", f"timeout:{world.job.id}/2"]
    world.passes(9)
    assert world.started() == ["b#2"]


def test_after_a_restart_steps_that_were_to_end_are_ended() -> None:
    world = Scenario(job(step("a")))
    world.run()
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    world.restart()
    assert world.ended() == ["a"]
    assert world.started() == []


def test_a_lost_step_fails_with_the_reason_and_follows_on_fail() -> None:
    world = Scenario(job(step("a", on_fail="b"), step("b")))
    world.run()
    world.restart()
    world.exits("a", None, error="interrupted: its wrapper is gone and left no exit status")
    assert world.started() == ["a", "b"]
    world.exits("b")
    assert "interrupted" in world.job.error


def test_a_missing_required_variable_refuses_the_job_and_defaults_fill_in() -> None:
    book = runbook(job(step("a"), vars=("who",)))
    with pytest.raises(Rejected, match=r"needs var\.who"):
        Scenario(book).run()
    world = Scenario(runbook(job(step("a"), vars=("who",), defaults={"who": "me"})))
    assert world.run().vars["var.who"] == "me"


def test_arguments_become_variables_and_options_not_given_are_empty() -> None:
    spec = ArgSpec(positional=(Positional(name="who"), Positional(name="what", required=False)))
    world = Scenario(runbook(job(step("a")), args=spec))
    world.run("you")
    assert (world.job.vars["var.who"], world.job.vars["var.what"]) == ("you", "")
    with pytest.raises(Rejected, match="who"):
        world.run()


def test_the_environment_of_a_step_carries_values_and_never_the_script() -> None:
    spec = ArgSpec(positional=(Positional(name="who"),))
    shell = Shell(
        text='echo "${var.who}"',
        script='echo "${OJ_V0}"',
        bindings=(Binding(env="OJ_V0", name="var.who"),),
    )
    tried = StepDef(
        name="a", run=RunShell(shell=shell), env={"GREETING": "hi ${var.who}"}, cwd="sub"
    )
    world = Scenario(runbook(job(tried), args=spec))
    world.run('"; rm -rf /', env={"EDITOR": "vi"})
    (order,) = world.taken(effects.StartStep)
    assert order.script == 'echo "${OJ_V0}"'
    assert order.cwd == "/project/sub"
    assert order.env == {
        "EDITOR": "vi",
        "GREETING": 'hi "; rm -rf /',
        "OJ_V0": '"; rm -rf /',
        "OJ_PROJECT": "demo",
        "OJ_JOB_ID": world.job.id,
        "OJ_STEP_NAME": "a",
    }


def test_a_step_whose_values_are_missing_fails_with_the_name_and_routes_like_any_failure() -> None:
    shell = Shell(text="x", script="x", bindings=(Binding(env="OJ_V0", name="var.nosuch"),))
    world = Scenario(job(StepDef(name="a", run=RunShell(shell=shell), on_fail="b"), step("b")))
    world.run()
    assert world.started() == ["b"]
    world.exits("b")
    assert "var.nosuch" in world.job.error


def test_the_same_key_again_returns_the_same_job() -> None:
    world = Scenario(job(step("a")))
    first = world.run(key="k1")
    assert world.run(key="k1").id == first.id
    assert world.run(key="k2").id != first.id


def test_a_job_with_a_folder_starts_when_the_folder_is_ready_and_loses_it_when_done() -> None:
    world = Scenario(job(step("a"), source=Source(kind=SourceKind.FOLDER)))
    world.run()
    (made,) = world.taken(effects.CreateWorkspace)
    assert world.started() == []
    assert made.path == world.job.vars["source.root"]
    world.tell(events.WorkspaceReady(workspace_id=made.workspace_id))
    (order,) = world.taken(effects.StartStep)
    assert order.cwd == made.path
    world.exits("a")
    (removed,) = world.taken(effects.DeleteWorkspace)
    assert removed.workspace_id == made.workspace_id
    world.tell(events.WorkspaceDeleted(workspace_id=made.workspace_id))
    assert not world.state.workspaces
    assert world.status is DONE


def test_the_workspace_of_a_failed_job_is_kept_and_used_again_by_resume() -> None:
    world = Scenario(job(step("a"), source=Source(kind=SourceKind.FOLDER)))
    world.run()
    (made,) = world.taken(effects.CreateWorkspace)
    world.tell(events.WorkspaceReady(workspace_id=made.workspace_id))
    world.exits("a", 1)
    assert world.taken(effects.DeleteWorkspace) == []
    assert world.state.workspaces[made.workspace_id].status is WorkspaceStatus.READY
    world.started()
    world.ask(requests.JobResume(id=world.job.id))
    assert world.started() == ["a#2"]


def test_a_workspace_that_cannot_be_made_fails_the_job_and_resume_tries_again() -> None:
    world = Scenario(job(step("a", on_fail="b"), step("b"), source=Source(kind=SourceKind.FOLDER)))
    world.run()
    (made,) = world.taken(effects.CreateWorkspace)
    world.tell(events.WorkspaceFailed(workspace_id=made.workspace_id, reason="disk full"))
    assert world.status is FAILED
    assert world.job.error == "no workspace: disk full"
    world.ask(requests.JobResume(id=world.job.id))
    (again,) = world.taken(effects.CreateWorkspace)
    world.tell(events.WorkspaceReady(workspace_id=again.workspace_id))
    assert world.started() == ["a"]


def test_a_job_cancelled_while_its_workspace_is_made_removes_it() -> None:
    world = Scenario(
        job(step("a"), step("undo"), on_cancel="undo", source=Source(kind=SourceKind.FOLDER))
    )
    world.run()
    (made,) = world.taken(effects.CreateWorkspace)
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    assert world.status is CANCELLED
    assert len(world.taken(effects.DeleteWorkspace)) == 1
    world.tell(events.WorkspaceReady(workspace_id=made.workspace_id))
    assert world.started() == []


def test_a_worktree_needs_a_repository_and_takes_root_and_branch_from_the_request() -> None:
    world = Scenario(job(step("a"), source=Source(kind=SourceKind.GIT)))
    with pytest.raises(Rejected, match="not in a git repository"):
        world.run()
    world.run(repo=requests.Repo(root="/repo", url="git@example.com:x", branch="main"))
    (made,) = world.taken(effects.CreateWorkspace)
    assert (made.repo, made.branch) == ("/repo", f"ws-{world.job.id[4:12]}")
    assert world.job.vars["source.repo"] == "git@example.com:x"


def test_locals_that_need_a_shell_are_evaluated_before_anything_starts() -> None:
    now = Text(text="$(date)", shell=Shell(text="$(date)", script="date"))
    world = Scenario(job(step("a"), locals={"now": now}))
    world.run()
    (order,) = world.taken(effects.EvaluateJob)
    assert world.started() == []
    world.restart()
    assert world.taken(effects.EvaluateJob) == [order]
    world.tell(events.JobEvaluated(job_id=world.job.id, vars={"local.now": "today"}))
    assert world.started() == ["a"]
    assert world.job.vars["local.now"] == "today"


def test_a_local_that_fails_fails_the_job_and_resume_evaluates_again() -> None:
    now = Text(text="$(date)", shell=Shell(text="$(date)", script="date"))
    world = Scenario(job(step("a"), locals={"now": now}))
    world.run()
    world.tell(
        events.JobEvaluateFailed(job_id=world.job.id, error="local.now evaluation failed: no clock")
    )
    assert (world.status, world.job.error) == (FAILED, "local.now evaluation failed: no clock")
    world.taken(effects.EvaluateJob)
    world.ask(requests.JobResume(id=world.job.id))
    assert len(world.taken(effects.EvaluateJob)) == 1


def test_notifications_are_ordered_at_start_and_at_every_kind_of_end() -> None:
    notify = Notify(
        on_start="go ${var.who}", on_done="done", on_fail="bad: ${error}", on_cancel="stopped"
    )
    definition = job(step("a"), notify=notify, defaults={"who": "me"})
    for end, expected in ((0, "done"), (1, "bad: step 'a' failed: shell exit code: 1")):
        world = Scenario(definition)
        world.run()
        world.exits("a", end)
        assert [order.text for order in world.taken(effects.Notify)] == ["go me", expected]
    world = Scenario(definition)
    world.run()
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    world.exits("a", 143, ended=True)
    assert [order.text for order in world.taken(effects.Notify)] == ["go me", "stopped"]


def test_prune_takes_old_and_cancelled_jobs_and_never_live_or_suspended_ones() -> None:
    world = Scenario(job(step("a")))
    done, suspended, live = world.run(), world.run(), world.run()
    world.exits("a")
    world.ask(requests.JobSuspend(ids=(suspended.id,)))
    world.tell(events.StepExited(job_id=suspended.id, run=1, exit_code=143, ended=True))
    reply = world.ask(requests.JobPrune())
    assert isinstance(reply, replies.Pruned)
    assert (reply.pruned, reply.skipped) == ((), 3)
    reply = world.ask(requests.JobPrune(all=True, dry_run=True))
    assert isinstance(reply, replies.Pruned)
    assert [entry.id for entry in reply.pruned] == [done.id]
    world.ask(requests.JobPrune(all=True))
    assert set(world.state.jobs) == {suspended.id, live.id}
    assert [order.job_id for order in world.taken(effects.ForgetJob)] == [done.id]


def test_a_fan_in_that_can_never_start_fails_the_job_and_names_what_it_waits_for() -> None:
    world = Scenario(
        job(
            step("init", on_done=["a", "b"]),
            step("a"),
            step("b", on_fail="again"),
            step("again", on_done=["a"]),
            step("end", after=["a", "b"]),
        )
    )
    world.run()
    world.exits("init")
    world.exits("a")
    world.exits("b", 1)
    world.exits("again")
    world.exits("a")
    assert world.status is FAILED
    assert (
        world.job.error == "step 'end' never started: it waits for b, which did not run to its end"
    )


def test_steps_named_like_terminal_states_are_ordinary_steps() -> None:
    world = Scenario(
        job(step("a", on_done=["done"]), step("done", on_fail="failed"), step("failed"))
    )
    world.run()
    world.exits("a")
    assert world.status is JobStatus.RUNNING
    world.exits("done")
    assert world.status is DONE
