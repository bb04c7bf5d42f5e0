"""kill -9 of the daemon in every phase of a job: nothing acknowledged is lost, nothing runs twice, nothing hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from oj_daemon.shell import ShellRuns
from tests.support.waiting import until
from tests.support.world import World, ran

GATE = "until [ -e ${invoke.dir}/go ]; do sleep 0.05; done"


def ledger(world: World) -> list[str]:
    """What steps wrote down, in order."""
    path = world.project / "ledger"
    return path.read_text().split() if path.exists() else []


def noted(world: World, word: str) -> None:
    until(lambda: word in ledger(world), 60, lambda: f"{word} in {ledger(world)}")


def go(world: World) -> None:
    (world.project / "go").touch()


def restart(world: World) -> None:
    world.kill_daemon()
    world.oj("daemon", "start")


NOTE = "echo {} >>${{invoke.dir}}/ledger"


def note(word: str) -> str:
    return NOTE.format(word)


def test_killed_before_a_step_was_started_every_job_runs_exactly_once(world: World) -> None:
    """A100, A101: as many as were acknowledged are there."""
    world.job(f'step "only" {{ run = "{note("$OJ_JOB_ID")}" }}')
    world.oj("daemon", "start")
    ids = world.start_many("build", 20)
    restart(world)
    for job_id in ids:
        assert world.finish(job_id)["status"] == "completed"
    assert sorted(ledger(world)) == sorted(ids)


@pytest.mark.parametrize("ends", ["while the daemon is away", "after it is back"])
@pytest.mark.parametrize("code", [0, 3])
def test_a_running_step_survives_and_its_exit_code_is_picked_up(
    world: World, ends: str, code: int
) -> None:
    """A097 (D5), C95."""
    world.job(f"""
        step "work" {{
          run     = "{note("begun")}; {GATE}; echo said after; exit {code}"
          on_done = {{ step = "next" }}
          on_fail = {{ step = "repair" }}
        }}
        step "next"   {{ run = "{note("next")}" }}
        step "repair" {{ run = "{note("repair")}" }}
    """)
    job_id = world.start("build")
    noted(world, "begun")
    world.kill_daemon()
    if ends == "while the daemon is away":
        go(world)
        until(lambda: not world.survivors(), 60, "the step has ended")
    world.oj("daemon", "start")
    go(world)
    job = world.finish(job_id)
    assert job["status"] == ("completed" if code == 0 else "failed")
    assert job["steps"][0]["exit_code"] == code
    assert ledger(world) == ["begun", "next" if code == 0 else "repair"]
    assert world.log(job_id).count("[work] said after\n") == 1


@pytest.mark.parametrize("level", ["step", "job", "none"])
def test_a_step_that_was_killed_together_with_the_daemon_fails_as_interrupted(
    world: World, level: str
) -> None:
    """A097, A157, 8.7."""
    of_job = 'on_fail = { step = "repair" }' if level == "job" else ""
    of_step = 'on_fail = { step = "repair" }' if level == "step" else ""
    world.job(f"""
        {of_job}
        step "work" {{
          run = "{note("begun")}; sleep 600"
          {of_step}
        }}
        step "repair" {{ run = "{note("repair")}" }}
    """)
    job_id = world.start("build")
    noted(world, "begun")
    world.kill_daemon()
    # The wrapper first, which is the oldest: it would record how the script ended.
    found = ShellRuns(world.state / "runs").survivors()
    for pid in sorted(survivor.process.pid for survivor in found):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not world.survivors(), 30, "the step is dead")
    world.oj("daemon", "start")
    job = world.finish(job_id)
    assert job["status"] == "failed"
    assert "interrupted" in job["error"]
    assert ran(job) == ["work failed"] + ["repair completed"] * (level != "none")
    assert ledger(world) == ["begun"] + ["repair"] * (level != "none")


@pytest.mark.parametrize("verb", ["cancel", "suspend"])
def test_killed_while_a_deaf_step_is_being_ended_it_is_ended_all_the_same(
    world: World, verb: str
) -> None:
    """A101: the acknowledged request is kept, and the clean-up still comes."""
    world.job(f"""
        on_cancel = {{ step = "clean" }}
        step "work"  {{ run = "trap '' TERM; {note("begun")}; while :; do sleep 1; done" }}
        step "clean" {{ run = "{note("clean")}" }}
    """)
    job_id = world.start("build")
    noted(world, "begun")
    world.oj(verb, job_id)
    restart(world)
    job = world.finish(job_id)
    assert job["status"] == ("cancelled" if verb == "cancel" else "suspended")
    assert ledger(world) == ["begun"] + ["clean"] * (verb == "cancel")
    until(lambda: not world.survivors(), 30, "nothing is left")


def test_killed_during_the_clean_up_the_job_ends_as_it_would_have(world: World) -> None:
    """A060, A101."""
    world.job(f"""
        on_cancel = {{ step = "clean" }}
        step "work"  {{ run = "{note("begun")}; sleep 600" }}
        step "clean" {{ run = "{note("clean")}; {GATE}" }}
    """)
    job_id = world.start("build")
    noted(world, "begun")
    world.oj("cancel", job_id)
    noted(world, "clean")
    restart(world)
    assert world.status(job_id) == "running"
    go(world)
    job = world.finish(job_id)
    assert (job["status"], ran(job)) == ("cancelled", ["work cancelled", "clean completed"])
    assert ledger(world) == ["begun", "clean"]


@pytest.mark.parametrize("ends", ["while the daemon is away", "after it is back"])
def test_killed_while_a_worktree_is_made_the_job_gets_one_and_only_one(
    world: World, ends: str
) -> None:
    """A101: git itself is slow here, held by a hook."""
    world.git_project()
    hook = world.project / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f"#!/bin/sh\necho hook >>{world.project}/hooked\nuntil [ -e {world.project}/go ]; do sleep 0.05; done\n"
    )
    hook.chmod(0o755)
    world.job(f"""
        source {{ git = true }}
        step "work" {{ run = "cat README; git status --porcelain; {note("work")}; exit 3" }}
    """)
    job_id = world.start("build")
    world.until_file(world.project / "hooked")
    world.kill_daemon()
    if ends == "while the daemon is away":
        go(world)
    world.oj("daemon", "start")
    go(world)
    job = world.finish(job_id)
    assert "exit code: 3" in job["error"]
    assert ledger(world) == ["work"]
    trees = world.git("worktree", "list", "--porcelain").count("worktree ")
    assert trees == 2
    assert "[work] hello\n" in world.log(job_id)


def test_killed_while_locals_are_evaluated_the_job_goes_on(world: World) -> None:
    """A101."""
    # Locals are evaluated where the caller stood.
    begin, wait = (text.replace("${invoke.dir}", ".") for text in (note("local"), GATE))
    world.job(f"""
        locals = {{ slow = "$({begin}; {wait}; echo value)" }}
        step "work" {{ run = "echo \\"got ${{local.slow}}\\"; {note("work")}" }}
    """)
    job_id = world.start("build")
    noted(world, "local")
    restart(world)
    go(world)
    job = world.finish(job_id)
    assert job["status"] == "completed"
    assert "[work] got value\n" in world.log(job_id)
    assert ledger(world).count("work") == 1
    until(lambda: not world.survivors(), 30, "nothing is left")


def test_killed_while_a_retry_is_pending_the_next_try_still_comes(world: World) -> None:
    """A101, D7: retry times and counts are facts."""
    world.job(f"""
        step "flaky" {{
          run   = "{note("try")}; exit 3"
          retry = {{ attempts = 2, backoff = "1s" }}
        }}
    """)
    job_id = world.start("build")
    noted(world, "try")
    until(lambda: len(world.show(job_id)["steps"]) == 2, 60, "the next try is planned")
    restart(world)
    job = world.finish(job_id)
    assert ran(job) == ["flaky failed"] * 3
    assert [run["attempt"] for run in job["steps"]] == [1, 2, 3]
    assert ledger(world) == ["try"] * 3


@pytest.mark.parametrize("strikes", ["while the daemon is away", "after it is back"])
def test_killed_while_a_timeout_is_running_it_still_strikes(world: World, strikes: str) -> None:
    """A101, D7."""
    world.job(f"""
        step "slow" {{
          run     = "{note("begun")}; sleep 600"
          timeout = "{"1s" if strikes == "while the daemon is away" else "3s"}"
        }}
    """)
    job_id = world.start("build")
    noted(world, "begun")
    world.kill_daemon()
    if strikes == "while the daemon is away":
        deadline = world.project / "deadline"
        subprocess.Popen(["sh", "-c", f"sleep 1; touch {deadline}"]).wait()
        assert deadline.exists()
        assert world.survivors(), "nobody was there to end it"
    world.oj("daemon", "start")
    job = world.finish(job_id)
    assert job["status"] == "failed"
    assert "time" in job["error"]
    until(lambda: not world.survivors(), 30, "the step is gone")


def test_killed_between_branches_the_join_runs_once(world: World) -> None:
    """A101 for jobs with several active steps."""
    world.job(f"""
        step "split" {{
          run     = "true"
          on_done = ["quick", "slow"]
        }}
        step "quick" {{ run = "{note("quick")}" }}
        step "slow"  {{ run = "{note("slow")}; {GATE}" }}
        step "join" {{
          after = ["quick", "slow"]
          run   = "{note("join")}"
        }}
    """)
    job_id = world.start("build")
    noted(world, "slow")
    world.until_listed(job_id, "[quick] shell completed")
    restart(world)
    go(world)
    job = world.finish(job_id)
    assert job["status"] == "completed"
    assert sorted(ledger(world)) == ["join", "quick", "slow"]


def test_suspended_failed_and_finished_jobs_are_as_they_were(world: World) -> None:
    """A101, A142: every status survives, and a suspended job can still be resumed."""
    world.job(
        f'step "work" {{ run = "{note("begun")}; test ${{var.mode}} != bad; test ${{var.mode}} != slow || {{ {GATE}; }}" }}',
        args="<mode>",
    )
    done, failed = world.run("build", "good")["id"], world.run("build", "bad", code=1)["id"]
    paused, ended = world.start("build", "slow"), world.start("build", "slow")
    for job_id, verb, status in ((paused, "suspend", "suspended"), (ended, "cancel", "cancelled")):
        world.until_running(job_id, "work")
        world.oj(verb, job_id)
        world.until_status(job_id, status)
    before = {job_id: world.show(job_id) for job_id in (done, failed, paused, ended)}
    restart(world)
    assert {job_id: world.show(job_id) for job_id in before} == before
    go(world)
    world.oj("resume", paused)
    assert world.finish(paused)["status"] == "completed"


def test_three_cycles_with_work_in_between_keep_everything(world: World) -> None:
    """A101, C95."""
    world.job(f'step "work" {{ run = "{note("$OJ_JOB_ID")}; {GATE}" }}')
    ids: list[str] = []
    for _ in range(3):
        ids.append(world.start("build"))
        noted(world, ids[-1])
        restart(world)
        listed = {job["id"]: job["status"] for job in world.oj("job", "list", "-o", "json").json}
        assert listed == dict.fromkeys(ids, "running")
    go(world)
    for job_id in ids:
        assert world.finish(job_id)["status"] == "completed"
    assert ledger(world) == ids


def test_killed_while_it_recovers_nothing_is_done_twice(world: World) -> None:
    """A101: a daemon that dies as soon as it answers."""
    world.job(f"""
        step "work" {{
          run     = "{note("work")}; {GATE}"
          on_done = {{ step = "next" }}
        }}
        step "next" {{ run = "{note("next")}" }}
    """)
    job_id = world.start("build")
    noted(world, "work")
    world.kill_daemon()
    go(world)
    for _ in range(4):
        world.oj("daemon", "start")
        world.kill_daemon()
    world.oj("daemon", "start")
    assert world.finish(job_id)["status"] == "completed"
    assert ledger(world) == ["work", "next"]


@pytest.mark.parametrize("words", [("--wait",), ("--wait", "-o", "json"), ()])
def test_a_run_that_waits_sees_the_end_also_through_a_restart(
    world: World, words: tuple[str, ...]
) -> None:
    """C55 for `oj run`."""
    world.job(f'step "work" {{ run = "{note("begun")}; {GATE}; exit 3" }}')
    child = world.spawn("run", *words, "build")
    noted(world, "begun")
    restart(world)
    go(world)
    out, err = child.communicate(timeout=90)
    assert child.returncode == 1, (out, err)
    assert "exit code: 3" in out + err


def test_the_key_of_a_lost_reply_starts_nothing_twice(world: World) -> None:
    """Y3: the daemon is stopped right when the request arrives, killed, and started again."""
    world.job(f'step "work" {{ run = "{note("$OJ_JOB_ID")}" }}')
    world.oj("daemon", "start")
    world.signal_daemon(signal.SIGSTOP)
    child = world.spawn("run", "--detach", "-o", "json", "build")
    until(lambda: _has_asked(world, child.pid), 60, "the request is on its way")
    world.kill_daemon()
    out, err = child.communicate(timeout=90)
    assert child.returncode == 0, (out, err)
    jobs = world.oj("job", "list", "-o", "json").json
    assert len(jobs) == 1
    assert world.finish(jobs[0]["id"])["status"] == "completed"
    assert len(ledger(world)) == 1


def _has_asked(world: World, pid: int) -> bool:
    """Whether the process has a socket open and sleeps, which it does when it waits for a reply."""
    try:
        sockets = [
            link
            for link in Path(f"/proc/{pid}/fd").iterdir()
            if str(link.readlink()).startswith("socket:")
        ]
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return bool(sockets) and state == "S" and world.daemon_pid != pid
